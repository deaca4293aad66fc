//! Prints samples as a table and as the flat JSON object that `cargo xtask bench` reads.

use std::collections::BTreeMap;
use std::fmt::Write;

/// One figure of the JSON object.
pub(crate) struct Figure {
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) target: Option<f64>,
    pub(crate) peer: Option<f64>,
    pub(crate) note: String,
}

/// All figures by name.
#[derive(Default)]
pub(crate) struct Report(BTreeMap<String, Figure>);

impl Report {
    pub(crate) fn add(&mut self, name: String, figure: Figure) {
        self.0.insert(name, figure);
    }

    /// Names of the figures that miss their target.
    pub(crate) fn missed(&self) -> Vec<&str> {
        let over = |figure: &Figure| figure.target.is_some_and(|target| figure.value > target);
        self.0.iter().filter(|(_, figure)| over(figure)).map(|(name, _)| name.as_str()).collect()
    }

    pub(crate) fn json(&self) -> String {
        let mut out = String::from("{\n");
        for (i, (name, figure)) in self.0.iter().enumerate() {
            let comma = if i + 1 == self.0.len() { "" } else { "," };
            let number = |value: Option<f64>| value.map_or("null".to_owned(), |value| format!("{value:.4}"));
            let note = figure.note.replace('\\', "\\\\").replace('"', "\\\"");
            let written = writeln!(
                out,
                "  \"{name}\": {{\"value\": {:.4}, \"unit\": \"{}\", \"target\": {}, \"peer\": {}, \"note\": \"{note}\"}}{comma}",
                figure.value,
                figure.unit,
                number(figure.target),
                number(figure.peer),
            );
            debug_assert!(written.is_ok());
        }
        out.push_str("}\n");
        out
    }
}

/// The median.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
