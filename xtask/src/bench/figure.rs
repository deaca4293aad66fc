//! A figure with its target, and a report of figures: a table and one flat JSON object.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// One measured figure. Lower is better for all of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    /// The measured value.
    pub(crate) value: f64,
    /// Unit.
    pub(crate) unit: String,
    /// Target: the upper limit.
    pub(crate) target: Option<f64>,
    /// Value of a peer implementation.
    pub(crate) peer: Option<f64>,
    /// Note on the measurement.
    pub(crate) note: String,
}

impl Figure {
    /// A figure without target, peer or note.
    pub(crate) fn new(value: f64, unit: &str) -> Self {
        Self { value, unit: unit.to_owned(), target: None, peer: None, note: String::new() }
    }

    /// Adds a target.
    pub(crate) fn target(self, target: f64) -> Self {
        Self { target: Some(target), ..self }
    }

    /// Adds a peer value.
    pub(crate) fn peer(self, peer: f64) -> Self {
        Self { peer: Some(peer), ..self }
    }

    /// Adds a note.
    pub(crate) fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    fn verdict(&self) -> &'static str {
        match self.target {
            None => "",
            Some(target) if self.value <= target => "met",
            Some(_) => "MISSED",
        }
    }
}

/// Figures by name. Names with a common beginning are sorted together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report(BTreeMap<String, Figure>);

impl Report {
    /// Adds a figure; a later one of the same name replaces it.
    pub(crate) fn add(&mut self, name: impl Into<String>, figure: Figure) {
        self.0.insert(name.into(), figure);
    }

    /// Adds the figures that another program wrote in the same JSON form; entries of another form are omitted.
    pub(crate) fn merge_json(&mut self, object: &Map<String, Value>) {
        for (name, entry) in object {
            let number = |key: &str| entry.get(key).and_then(Value::as_f64);
            let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            if let Some(value) = number("value") {
                let figure = Figure {
                    value,
                    unit: text("unit"),
                    target: number("target"),
                    peer: number("peer"),
                    note: text("note"),
                };
                self.add(name.clone(), figure);
            }
        }
    }

    /// The flat JSON object: name to value, unit, target, peer and note.
    pub(crate) fn json(&self) -> String {
        let entry = |figure: &Figure| {
            json!({
                "value": figure.value,
                "unit": figure.unit,
                "target": figure.target,
                "peer": figure.peer,
                "note": figure.note,
            })
        };
        let object: Map<String, Value> = self.0.iter().map(|(name, figure)| (name.clone(), entry(figure))).collect();
        let mut text = serde_json::to_string_pretty(&Value::Object(object)).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Names and figures that miss their target.
    pub(crate) fn missed(&self) -> Vec<&str> {
        let missed = self.0.iter().filter(|(_, figure)| figure.verdict() == "MISSED");
        missed.map(|(name, _)| name.as_str()).collect()
    }

    /// Number of figures with a target.
    pub(crate) fn targets(&self) -> usize {
        self.0.values().filter(|figure| figure.target.is_some()).count()
    }

    /// The table, as aligned Markdown.
    pub(crate) fn table(&self) -> Vec<String> {
        let header = ["figure", "value", "unit", "target", "", "peer", "note"].map(str::to_owned);
        let mut rows = vec![header];
        for (name, figure) in &self.0 {
            let optional = |value: Option<f64>| value.map_or_else(String::new, number);
            rows.push([
                name.clone(),
                number(figure.value),
                figure.unit.clone(),
                optional(figure.target),
                figure.verdict().to_owned(),
                optional(figure.peer),
                figure.note.clone(),
            ]);
        }
        markdown(&rows)
    }
}

/// A number without insignificant digits.
pub(crate) fn number(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 10_000.0 {
        format!("{value:.0}")
    } else if value.abs() >= 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

/// Rows of equal length as a Markdown table with aligned columns; the first row is the heading.
pub(crate) fn markdown<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(1)
    });
    let mut lines = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!(" {cell:<width$} |"));
        lines.push(format!("|{}", cells.collect::<String>()));
        if index == 0 {
            let rule = widths.map(|width| format!("{}|", "-".repeat(width + 2)));
            lines.push(format!("|{}", rule.concat()));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_compared_with_its_target() {
        let mut report = Report::default();
        report.add("a", Figure::new(2.0, "x").target(2.0));
        report.add("b", Figure::new(2.1, "x").target(2.0));
        report.add("c", Figure::new(9.0, "x"));
        assert_eq!(report.missed(), ["b"]);
        assert_eq!(report.targets(), 2);
    }

    #[test]
    fn json_is_parsed_without_a_change() {
        let mut report = Report::default();
        report.add("a.b", Figure::new(1.5, "ratio").target(2.0).note("why \"so\""));
        let parsed: Map<String, Value> = serde_json::from_str(&report.json()).unwrap_or_default();
        let entry = parsed.get("a.b").cloned().unwrap_or_default();
        assert_eq!(entry.get("peer"), Some(&Value::Null));
        let mut again = Report::default();
        again.merge_json(&parsed);
        assert_eq!(again.json(), report.json());
    }

    #[test]
    fn numbers_have_no_insignificant_digits() {
        assert_eq!(number(150.0), "150");
        assert_eq!(number(0.25), "0.250");
        assert_eq!(number(123.456), "123.5");
        assert_eq!(number(123_456.7), "123457");
    }
}
