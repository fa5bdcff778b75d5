//! The effective configuration as a TOML file that could be given back.
//!
//! **Invariant:** reading the report as a configuration file gives the same configuration.

use std::fmt::Write as _;

use crate::cli::Loaded;
use crate::layers;
use crate::plan::Plan;

/// One line per setting, with where it comes from.
pub(crate) fn effective(loaded: &Loaded, plan: &Plan) -> String {
    let mut report = String::new();
    let mut unset = Vec::new();
    for (key, texts) in layers::keys().iter().filter_map(|key| loaded.texts.get_key_value(key)) {
        let value = if layers::is_list(key) {
            let items: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
            format!("[{}]", items.join(", "))
        } else if let Some(text) = texts.first() {
            scalar(text)
        } else if let Some(value) = derived(key, plan) {
            value
        } else {
            unset.push(key.as_str());
            continue;
        };
        let origin = loaded.origins.get(key).map_or("default", String::as_str);
        // Writing to a `String` cannot fail.
        let _ = writeln!(report, "{key} = {value}  # {origin}");
    }
    let unset = if unset.is_empty() { String::new() } else { format!(" Not set: {}.", unset.join(", ")) };
    format!("# The effective configuration.{unset}\n{report}")
}

/// The values of settings whose default depends on the machine or on other settings.
fn derived(key: &str, plan: &Plan) -> Option<String> {
    let gateway = &plan.gateway;
    Some(match key {
        "shards" => gateway.shards.to_string(),
        "connections_per_ip" => gateway.connections_per_ip.to_string(),
        "auth_failures_per_ip_per_min" => gateway.auth_failures_per_ip_per_min.to_string(),
        "new_connections_per_ip_per_s" => gateway.new_connections_per_ip_per_s.to_string(),
        _ => return None,
    })
}

/// A number or a boolean as itself, anything else as a string.
fn scalar(text: &str) -> String {
    let value = text.parse::<i64>().map(|number| number.to_string()).ok();
    let value = value.or_else(|| text.parse::<bool>().map(|flag| flag.to_string()).ok());
    value.unwrap_or_else(|| match text.parse::<f64>() {
        // `{:?}` keeps the point that makes it a float in TOML; the digits must be the ones that were given.
        Ok(number) if number.is_finite() && format!("{number:?}") == text => text.to_owned(),
        _ => quoted(text),
    })
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
