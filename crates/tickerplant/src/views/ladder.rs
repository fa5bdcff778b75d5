//! The ladder: a book, its last trades and the state of the connection, on a screen or as text.
//!
//! **Invariant:** drawing changes nothing and asks nobody; what is drawn is what the model holds.
//!
//! What is *not* here: the terminal, keys, and the connection (`book`).

use std::collections::VecDeque;
use std::fmt::Write as _;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Paragraph};
use tickerplant_client::{Book, BookSide, Decimal, InstrumentTerms, Level, Quote, Side, StatusCode, Trade, Update};

/// So many trades are kept for the list; more than any screen has lines.
const TRADES_MAX: usize = 200;

const UP: Color = Color::Cyan;
const DOWN: Color = Color::Yellow;

/// What is shown.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) symbol: String,
    pub(super) depth: usize,
    pub(super) terms: Option<InstrumentTerms>,
    /// The book, while it is whole
    pub(super) book: Option<Book>,
    /// The best bid and offer, for a feed without books
    pub(super) quote: Option<Quote>,
    pub(super) trades: VecDeque<Update<Trade>>,
    pub(super) status: Option<StatusCode>,
    /// The connection in words, and whether all is well
    pub(super) connection: String,
    pub(super) connected: bool,
    pub(super) seq: u64,
    pub(super) events: u64,
    pub(super) gaps: u64,
    pub(super) lost: u64,
    /// From the server's sending to here, in microseconds
    pub(super) delay_us: Option<u64>,
}

impl Model {
    pub(super) fn trade(&mut self, trade: Update<Trade>) {
        self.trades.truncate(TRADES_MAX - 1);
        self.trades.push_front(trade);
    }

    /// The levels that are shown of a side, best first.
    pub(super) fn levels(&self, side: BookSide) -> Vec<Level> {
        match (&self.book, self.quote) {
            (Some(book), _) => book.levels(side).take(self.depth).collect(),
            (None, Some(quote)) => match side {
                BookSide::Bid => quote.bid,
                BookSide::Ask => quote.ask,
            }
            .into_iter()
            .collect(),
            (None, None) => Vec::new(),
        }
    }

    fn spread(&self) -> Option<Decimal> {
        let (bid, ask) = (*self.levels(BookSide::Bid).first()?, *self.levels(BookSide::Ask).first()?);
        let terms = self.terms.as_ref()?;
        Some(Decimal::new(i128::from(ask.price.0) - i128::from(bid.price.0), terms.price_exponent))
    }

    /// What to say instead of levels.
    fn nothing(&self) -> &'static str {
        if self.connected { "waiting for the book ..." } else { "no connection" }
    }
}

/// The whole screen.
pub(super) fn draw(model: &Model, frame: &mut Frame<'_>) {
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(3), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(header(model), top);
    let wide = middle.width >= 72;
    if wide {
        let [left, right] = Layout::horizontal([Constraint::Min(40), Constraint::Length(34)]).areas(middle);
        ladder(model, frame, left);
        trades(model, frame, right);
    } else {
        ladder(model, frame, middle);
    }
    frame.render_widget(footer(model), bottom);
}

fn header(model: &Model) -> Line<'_> {
    let dot = Style::new().fg(if model.connected { UP } else { Color::Red });
    let mut spans = vec![
        Span::styled(format!(" {} ", model.symbol), Style::new().add_modifier(Modifier::BOLD)),
        Span::styled(if model.connected { " ● " } else { " ○ " }, dot),
        Span::styled(model.connection.as_str(), if model.connected { Style::new().dim() } else { dot }),
    ];
    if let Some(status) = model.status {
        let alarm = matches!(status, StatusCode::Halted | StatusCode::Auction);
        let style = if alarm { Style::new().fg(Color::Black).bg(Color::Red) } else { Style::new().dim() };
        spans.extend([Span::raw("  "), Span::styled(format!(" {} ", status.name()), style)]);
    }
    Line::from(spans)
}

fn footer(model: &Model) -> Line<'_> {
    let delay = model.delay_us.map_or_else(|| "-".to_owned(), |us| format!("{:.1} ms", us as f64 / 1000.0));
    let Model { seq, events, gaps, lost, .. } = model;
    let text = format!(" seq {seq}   events {events}   gaps {gaps}   lost {lost}   delay {delay}");
    let alarm = *gaps > 0 || *lost > 0;
    let style = if alarm { Style::new().fg(DOWN) } else { Style::new().dim() };
    Line::from(vec![Span::styled(text, style), Span::styled("   q quits", Style::new().dim())])
}

fn frame_of(title: &str) -> Block<'_> {
    Block::bordered().border_type(BorderType::Rounded).border_style(Style::new().dim()).title(format!(" {title} "))
}

fn ladder(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let block = frame_of(if model.book.is_none() && model.quote.is_some() { "best bid and offer" } else { "book" });
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let (asks, bids) = (model.levels(BookSide::Ask), model.levels(BookSide::Bid));
    let Some(terms) = model.terms.as_ref().filter(|_| !asks.is_empty() || !bids.is_empty()) else {
        let text = Paragraph::new(model.nothing()).alignment(Alignment::Center).style(Style::new().dim());
        let [_, line] = Layout::vertical([Constraint::Length(inner.height / 2), Constraint::Min(1)]).areas(inner);
        return frame.render_widget(text, line);
    };
    // Half of the height for each side, and a line between for the spread.
    let rows = usize::from(inner.height.saturating_sub(1) / 2);
    let (asks, bids) = (&asks[..asks.len().min(rows)], &bids[..bids.len().min(rows)]);
    let most = asks.iter().chain(bids).map(|level| level.size.0).max().unwrap_or(1).max(1);
    let shown =
        |level: &Level| (Decimal::price(level.price, terms).to_string(), Decimal::size(level.size, terms).to_string());
    let texts: Vec<_> = asks.iter().chain(bids).map(shown).collect();
    let price_width = texts.iter().map(|(price, _)| price.len()).max().unwrap_or(0);
    let size_width = texts.iter().map(|(_, size)| size.len()).max().unwrap_or(0);
    let bar_width = usize::from(inner.width).saturating_sub(price_width + size_width + 6);
    let row = |level: &Level, color| {
        let (price, size) = shown(level);
        Line::from(vec![
            Span::styled(format!(" {price:>price_width$} "), Style::new().fg(color).add_modifier(Modifier::BOLD)),
            Span::raw(format!(" {size:>size_width$}  ")),
            Span::styled(bar(level.size.0, most, bar_width), Style::new().fg(color)),
        ])
    };
    let mut lines: Vec<Line<'_>> = vec![Line::default(); rows - asks.len()];
    lines.extend(asks.iter().rev().map(|level| row(level, DOWN)));
    let spread =
        model.spread().map_or_else(String::new, |spread| format!(" {:>price_width$}  spread", spread.to_string()));
    lines.push(Line::from(Span::styled(spread, Style::new().dim())));
    lines.extend(bids.iter().map(|level| row(level, UP)));
    frame.render_widget(Paragraph::new(lines), inner);
}

/// A bar of eighths of a character.
fn bar(size: u64, most: u64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (u128::from(size) * width as u128 * 8 / u128::from(most)) as usize;
    let eighths = if size > 0 { eighths.max(1) } else { 0 };
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

fn trades(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let block = frame_of("trades");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let line = |trade: &Update<Trade>| {
        let (sign, color) = sign(trade.value.side);
        let time = trade.time.to_string();
        Line::from(vec![
            Span::styled(format!(" {} ", time.get(11..19).unwrap_or("")), Style::new().dim()),
            Span::styled(format!("{sign}{:>10}", trade.price()), Style::new().fg(color)),
            Span::raw(format!(" {:>9}", trade.size())),
        ])
    };
    let lines: Vec<_> = model.trades.iter().take(inner.height.into()).map(line).collect();
    frame.render_widget(Paragraph::new(lines), inner);
}

fn sign(side: Side) -> (char, Color) {
    match side {
        Side::Buy => ('▲', UP),
        Side::Sell => ('▼', DOWN),
        Side::Unknown => (' ', Color::Reset),
    }
}

/// The same as text: a line for each level, best in the middle.
pub(super) fn text(model: &Model) -> String {
    let Some(terms) = &model.terms else { return String::new() };
    let mut text = format!("{}  seq {}\n", model.symbol, model.seq);
    let (asks, bids) = (model.levels(BookSide::Ask), model.levels(BookSide::Bid));
    let shown = |level: &Level, side| {
        (side, Decimal::price(level.price, terms).to_string(), Decimal::size(level.size, terms).to_string())
    };
    let rows: Vec<_> = asks
        .iter()
        .rev()
        .map(|level| shown(level, "ask"))
        .chain(bids.iter().map(|level| shown(level, "bid")))
        .collect();
    let price_width = rows.iter().map(|(_, price, _)| price.len()).max().unwrap_or(0);
    let size_width = rows.iter().map(|(.., size)| size.len()).max().unwrap_or(0);
    for (side, price, size) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{side}  {price:>price_width$}  {size:>size_width$}");
    }
    if let Some(spread) = model.spread() {
        let _ = writeln!(text, "spread  {spread}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use std::sync::Arc;
    use tickerplant_client::{InstrumentId, Origin, Price, Size, Symbol, Timestamp};

    fn model() -> Model {
        let symbol = Symbol::new("BTC-USD").unwrap();
        let terms = InstrumentTerms { id: InstrumentId(7), symbol, price_exponent: -2, size_exponent: -1 };
        let mut book = Book::new();
        for n in 0..5 {
            book.set(BookSide::Bid, Price(10_000 - n * 10), Size(10 * (n as u64 + 1)));
            book.set(BookSide::Ask, Price(10_010 + n * 10), Size(8));
        }
        let mut model = Model {
            symbol: "BTC-USD".into(),
            depth: 3,
            terms: Some(terms.clone()),
            book: Some(book),
            connection: "ws://h/ws".into(),
            connected: true,
            seq: 41,
            delay_us: Some(1250),
            ..Model::default()
        };
        let value = Trade { price: Price(10_010), size: Size(25), side: Side::Buy, trade_id: 1 };
        let (time, sent_at) = (Timestamp(1_719_840_600_000_000_001), Timestamp(0));
        model.trade(Update { instrument: Arc::new(terms), seq: 1, time, sent_at, origin: Origin::Live, value });
        model
    }

    fn screen(model: &Model, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(model, frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn text_has_asks_above_bids() {
        let want = "\
BTC-USD  seq 41
ask  100.30  0.8
ask  100.20  0.8
ask  100.10  0.8
bid  100.00  1.0
bid   99.90  2.0
bid   99.80  3.0
spread  0.10
";
        assert_eq!(text(&model()), want);
    }

    #[test]
    fn the_screen_shows_ladder_trades_and_state() {
        let screen = screen(&model(), 80, 13);
        let want = r#"
" BTC-USD  ● ws://h/ws                                                           "
"╭ book ──────────────────────────────────────╮╭ trades ────────────────────────╮"
"│                                            ││ 13:30:00 ▲    100.10       2.5 │"
"│                                            ││                                │"
"│ 100.30  0.8  ███
"#;
        for line in want.trim().lines() {
            assert!(screen.contains(line), "{line} is not in\n{screen}");
        }
        for piece in ["0.10  spread", "99.80  3.0  █", "seq 41   events 0   gaps 0   lost 0   delay 1.2 ms   q quits"]
        {
            assert!(screen.contains(piece), "{piece} is not in\n{screen}");
        }
    }

    #[test]
    fn no_size_of_the_screen_and_no_state_of_the_book_is_too_much() {
        let lost = Model { connected: false, connection: "connection lost; again in 0.3 s".into(), ..Model::default() };
        for model in [model(), lost] {
            for (width, height) in [(1, 1), (10, 3), (40, 5), (71, 24), (200, 60)] {
                let _ = screen(&model, width, height);
            }
        }
    }

    #[test]
    fn without_a_book_the_quote_is_shown() {
        let quote = Quote { bid: Some(Level { price: Price(100), size: Size(5) }), ask: None };
        let model = Model { book: None, quote: Some(quote), ..model() };
        assert_eq!(text(&model), "BTC-USD  seq 41\nbid  1.00  0.5\n");
        assert!(screen(&model, 80, 12).contains("best bid and offer"));
    }

    #[test]
    fn bars_are_exact_to_an_eighth() {
        assert_eq!(bar(8, 8, 4), "████");
        assert_eq!(bar(5, 8, 4), "██▌");
        assert_eq!(bar(1, 1000, 4), "▏");
        assert_eq!(bar(0, 8, 4), "");
        assert_eq!(bar(u64::MAX, u64::MAX, 300).chars().count(), 300);
    }
}
