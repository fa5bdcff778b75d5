//! Line plots as SVG.
//!
//! **Invariant:** a plot needs nothing but itself: no script, no font, no file beside it; colours follow the reader's
//! light or dark preference.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 42.0;

/// How many colours there are; more lines than that take them again.
const COLOURS: usize = 8;

/// The colours and how parts of a plot look, for a page or inside of the plot itself.
pub(crate) const STYLE: &str = "\
:root{--fg:#1a2027;--dim:#67727e;--grid:#e3e7eb;--bg:#ffffff;--c0:#0b6bcb;--c1:#d9480f;--c2:#2b8a3e;--c3:#862e9c;--c4:#c92a2a;\
--c5:#087f8c;--c6:#a57c00;--c7:#5f3dc4}\
@media (prefers-color-scheme:dark){:root{--fg:#e6e9ec;--dim:#96a1ad;--grid:#2b333b;--bg:#14181c;--c0:#58a6ff;--c1:#ff922b;--c2:#51cf66;\
--c3:#cc5de8;--c4:#ff6b6b;--c5:#3bc9db;--c6:#fcc419;--c7:#9775fa}}\
.plot text{font:12px system-ui,sans-serif;fill:var(--dim)}.plot .title{font-weight:600;font-size:13px;fill:var(--fg)}\
.plot .grid{stroke:var(--grid);stroke-width:1}.plot .line{fill:none;stroke-width:1.8;stroke-linejoin:round}\
.plot .window{fill:var(--c0);opacity:.06}\
.s0{stroke:var(--c0)}.s1{stroke:var(--c1)}.s2{stroke:var(--c2)}.s3{stroke:var(--c3)}.s4{stroke:var(--c4)}.s5{stroke:var(--c5)}\
.s6{stroke:var(--c6)}.s7{stroke:var(--c7)}";

/// One line.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What runs along the x axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Across {
    /// Seconds
    Time,
    /// Quantiles, the rare ones stretched: each further nine takes the same room
    Quantile,
}

/// What the y axis counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Up {
    /// Microseconds, on a logarithmic scale
    Latency,
    Count,
    Bytes,
    /// Shares of one, as percent
    Share,
}

/// Lines over a common axis.
#[derive(Debug, Clone)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) across: Across,
    /// The name of what runs along the x axis
    pub(crate) across_name: String,
    pub(crate) up: Up,
    pub(crate) lines: Vec<Line>,
    /// A stretch of the x axis that is set off
    pub(crate) window: Option<(f64, f64)>,
}

/// Whether a plot stands alone in a file or in a page that has the style.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Alone,
    InPage,
}

struct Range {
    low: f64,
    high: f64,
}

impl Range {
    fn place(&self, value: f64) -> f64 {
        if self.high > self.low { (value - self.low) / (self.high - self.low) } else { 0.5 }
    }
}

impl Plot {
    /// Whether there is anything to see.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.points.is_empty())
    }

    /// The plot as an `svg` element.
    pub(crate) fn svg(&self, standing: Standing) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let xs = Range {
            low: points().map(|point| self.across.scaled(point.0)).fold(f64::INFINITY, f64::min),
            high: points().map(|point| self.across.scaled(point.0)).fold(f64::NEG_INFINITY, f64::max),
        };
        let (ys, y_ticks) = self.up.range(points().map(|point| point.1));
        let x = |value: f64| LEFT + xs.place(self.across.scaled(value)) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - ys.place(self.up.scaled(value)) * (HEIGHT - TOP - BOTTOM);
        let mut out = format!(
            "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" \
             xmlns=\"http://www.w3.org/2000/svg\"><title>{}</title>",
            escape(&self.title)
        );
        // Writing to a string cannot fail.
        if standing == Standing::Alone {
            let _ =
                write!(out, "<style>{STYLE}</style><rect width=\"100%\" height=\"100%\" style=\"fill:var(--bg)\"/>");
        }
        if let Some((from, to)) = self.window {
            let inside = |at: f64| x(at).clamp(LEFT, WIDTH - RIGHT);
            let (from, to) = (inside(from), inside(to));
            let (width, height) = ((to - from).max(0.0), HEIGHT - TOP - BOTTOM);
            let _ = write!(
                out,
                "<rect class=\"window\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\"/>"
            );
        }
        for tick in y_ticks {
            let at = y(tick);
            let (right, label, label_y) = (WIDTH - RIGHT, self.up.label(tick), at + 4.0);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{label_y:.1}\" text-anchor=\"end\">{label}</text>",
                LEFT - 8.0
            );
        }
        for (tick, label) in self.across.ticks(&xs) {
            let (at, bottom) = (x(tick), HEIGHT - BOTTOM);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                bottom + 16.0
            );
        }
        for (number, line) in self.lines.iter().enumerate() {
            let places: Vec<_> = line.points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
            let _ = write!(out, "<polyline class=\"line s{}\" points=\"{}\"/>", number % COLOURS, places.join(" "));
        }
        self.write_words(&mut out);
        out.push_str("</svg>");
        out
    }

    fn write_words(&self, out: &mut String) {
        let _ = write!(
            out,
            "<text class=\"title\" x=\"{LEFT}\" y=\"18\">{}</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            escape(&self.title),
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 8.0,
            escape(&self.across_name)
        );
        // The legend stands right above the plot, from the right; about seven units a letter.
        let mut at = WIDTH - RIGHT;
        for (number, line) in self.lines.iter().enumerate().rev() {
            if self.lines.len() < 2 {
                break;
            }
            at -= 7.0 * line.name.chars().count() as f64;
            let _ = write!(
                out,
                "<text x=\"{at:.1}\" y=\"18\">{}</text><line class=\"line s{}\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"14\" y2=\"14\"/>",
                escape(&line.name),
                number % COLOURS,
                at - 20.0,
                at - 5.0
            );
            at -= 34.0;
        }
    }
}

impl Across {
    fn scaled(self, value: f64) -> f64 {
        match self {
            Self::Time => value,
            Self::Quantile => -(1.0 - value.min(0.999_999)).log10(),
        }
    }

    fn ticks(self, range: &Range) -> Vec<(f64, String)> {
        match self {
            Self::Time => steps(range, 8).into_iter().map(|tick| (tick, plain(tick))).collect(),
            Self::Quantile => {
                [(0.0, "0"), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %")]
                    .into_iter()
                    .filter(|(tick, _)| self.scaled(*tick) <= range.high)
                    .map(|(tick, label)| (tick, label.to_owned()))
                    .collect()
            }
        }
    }
}

impl Up {
    fn scaled(self, value: f64) -> f64 {
        if self == Self::Latency { value.max(1.0).log10() } else { value }
    }

    fn range(self, values: impl Iterator<Item = f64> + Clone) -> (Range, Vec<f64>) {
        let high = values.clone().fold(0.0, f64::max);
        if self == Self::Latency {
            let low = values.fold(f64::INFINITY, f64::min).max(1.0).log10().floor();
            let range = Range { low, high: high.max(10.0).log10().ceil().max(low + 1.0) };
            let ticks = decades(range.low, range.high);
            return (range, ticks);
        }
        let range = Range { low: 0.0, high: if high > 0.0 { high * 1.08 } else { 1.0 } };
        let ticks = steps(&range, 5);
        (range, ticks)
    }

    fn label(self, value: f64) -> String {
        match self {
            Self::Latency => crate::table::micros(value as u64).replace(".00", ""),
            Self::Count => count(value),
            Self::Bytes => crate::table::bytes(value as u64).replace(".0 ", " "),
            Self::Share => format!("{:.0} %", value * 100.0),
        }
    }
}

/// Round values in a range, about `wanted` of them.
fn steps(range: &Range, wanted: usize) -> Vec<f64> {
    let rough = (range.high - range.low) / wanted as f64;
    if rough <= 0.0 || !rough.is_finite() {
        return vec![range.low].into_iter().filter(|low| low.is_finite()).collect();
    }
    let unit = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * unit).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * unit);
    let (first, last) = ((range.low / step).ceil() as i64, (range.high / step).floor() as i64);
    (first..=last).map(|number| number as f64 * step).collect()
}

/// Powers of ten from one exponent to another.
fn decades(low: f64, high: f64) -> Vec<f64> {
    (low.floor() as i32..=high.ceil() as i32).map(|exponent| 10f64.powi(exponent)).collect()
}

fn plain(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn count(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{} M", plain((v / 1e5).round() / 10.0)),
        v if v >= 1e3 => format!("{} k", plain((v / 1e2).round() / 10.0)),
        v => plain(v),
    }
}

/// Text as it may stand in HTML and SVG.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(up: Up, points: Vec<(f64, f64)>) -> String {
        let lines =
            vec![Line { name: "a<b".to_owned(), points: points.clone() }, Line { name: "c".to_owned(), points }];
        let plot = Plot {
            title: "t & u".to_owned(),
            across: Across::Time,
            across_name: "s".to_owned(),
            up,
            lines,
            window: Some((0.0, 1.0)),
        };
        plot.svg(Standing::Alone)
    }

    #[test]
    fn every_number_in_a_plot_is_one() {
        for up in [Up::Latency, Up::Count, Up::Bytes, Up::Share] {
            for points in [vec![], vec![(0.0, 0.0)], vec![(0.0, 5.0), (1.0, 5e9)], vec![(-3.0, 1.0), (2.0, 1.0)]] {
                let svg = plot(up, points.clone());
                assert!(!svg.contains("NaN"), "{up:?} {points:?}: {svg}");
                assert!(svg.contains("t &amp; u") && svg.contains("a&lt;b"));
            }
        }
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(steps(&Range { low: 0.0, high: 10.0 }, 5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(steps(&Range { low: -2.0, high: 15.0 }, 8), [0.0, 5.0, 10.0, 15.0]);
        assert_eq!(decades(1.0, 3.0), [10.0, 100.0, 1000.0]);
    }
}
