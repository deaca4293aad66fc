//! Results of a row's tests, and the table of all rows.

use crate::threats::rows::{Layers, rows_of};

/// Result of one of the two runs of an attack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// The attack reached a byte of another owner.
    Landed,
    /// Without its defence: an assertion failed, EL2 ended itself or the deadline passed.
    Detected,
    /// The attack reached no such byte, and the test passed.
    Blocked,
    /// The test passes without its defence: it cannot detect a missing defence.
    PassedWithoutDefence,
    /// The test also passed without isolation: it contains no attack, but checks correct operation or an error code.
    NoAttack,
    /// There is no such run: the attacked function does not exist without EL2.
    NotRun,
    /// The test failed.
    Failed,
}

impl End {
    /// Its text in the table.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Landed => "landed",
            Self::Detected => "detected",
            Self::PassedWithoutDefence => "PASSED",
            Self::Blocked => "blocked",
            Self::NoAttack => "passed",
            Self::NotRun => "-",
            Self::Failed => "FAILED",
        }
    }
}

/// One test with its two results.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Name in the table.
    pub(crate) name: String,
    /// Name of the test.
    pub(crate) test: String,
    /// Result without the defence.
    pub(crate) without: End,
    /// Result with the defence.
    pub(crate) with: End,
    /// What was missing in the run without, and how it was detected.
    pub(crate) reason: Option<String>,
}

/// One row with its tests and their results.
pub(crate) struct Row<'a> {
    number: u8,
    title: &'a str,
    layers: Layers,
    model: Vec<&'a Found>,
    payload: Vec<&'a Found>,
}

impl<'a> Row<'a> {
    /// Picks the row's tests.
    pub(crate) fn new(
        (number, title, layers): (u8, &'a str, Layers),
        model: &'a [Found],
        payload: &'a [Found],
    ) -> Self {
        let about = |found: &&Found| rows_of(&found.test).contains(&number);
        Self {
            number,
            title,
            layers,
            model: model.iter().filter(about).collect(),
            payload: payload.iter().filter(about).collect(),
        }
    }

    /// Why the row is wrong; layers that were not selected are ignored.
    pub(crate) fn wrong(&self, asked: Layers) -> Option<String> {
        let mut failed = self.tests().filter(|test| test.without == End::Failed || test.with == End::Failed);
        if let Some(test) = failed.next() {
            return Some(format!("{} fails", test.name));
        }
        // If the catalogue lists the attack as not closed, a landed attack is reported as such.
        if let Some(test) = self.tests().find(|test| test.with == End::Landed)
            && !matches!(self.layers, Layers::Elsewhere(_))
        {
            return Some(format!("{} lands", test.name));
        }
        if let Some(test) = self.tests().find(|test| test.without == End::PassedWithoutDefence) {
            return Some(format!("{} passes without its defence", test.name));
        }
        let layers = [
            (asked.model() && self.layers.model(), &self.model, "on the build machine"),
            (asked.payload() && self.layers.payload(), &self.payload, "of the payload"),
        ];
        for (_, tests, place) in layers.into_iter().filter(|(required, ..)| *required) {
            if !tests.iter().any(|test| test.with == End::Blocked) {
                return Some(format!("no test {place}"));
            }
            let shown =
                |test: &&&Found| test.with == End::Blocked && matches!(test.without, End::Landed | End::Detected);
            if !tests.iter().any(|test| shown(&test)) {
                return Some(format!("no attack {place} is shown without its defence"));
            }
        }
        None
    }

    fn tests(&self) -> impl Iterator<Item = &'a Found> + '_ {
        self.model.iter().chain(&self.payload).copied()
    }

    /// The lines of the row, then those of its tests.
    pub(crate) fn lines(&self, asked: Layers) -> Vec<String> {
        let note = match (self.wrong(asked), self.layers) {
            (Some(why), _) => format!("  MISSING OR WRONG: {why}"),
            (None, Layers::Elsewhere(reason)) => format!("  {reason}"),
            (None, _) => String::new(),
        };
        let mut lines = vec![format!("T{:02}  {:3}  {}{note}", self.number, self.layers.letters(), self.title)];
        for test in self.tests() {
            let reason = test.reason.as_deref().map(|reason| format!("   {}", short(reason))).unwrap_or_default();
            let line = format!("          {:76} {:8} {:8}{reason}", test.name, test.without.word(), test.with.word());
            lines.push(line.trim_end().to_owned());
        }
        lines
    }
}

/// The first line of a reason, cut to the width of a terminal.
fn short(reason: &str) -> String {
    const ROOM: usize = 90;
    let line = reason.lines().next().unwrap_or_default();
    if line.chars().count() <= ROOM { line.to_owned() } else { line.chars().take(ROOM).chain("...".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(test: &str, with: End) -> Found {
        ends(test, End::Detected, with)
    }

    fn ends(test: &str, without: End, with: End) -> Found {
        Found { name: test.to_owned(), test: test.to_owned(), without, with, reason: None }
    }

    #[test]
    fn a_row_needs_a_passing_test_in_each_of_its_layers() {
        let model = [found("t01_a", End::Blocked)];
        let row = |payload: &[Found]| Row::new((1, "x", Layers::Both), &model, payload).wrong(Layers::Both);
        assert_eq!(row(&[found("t01_b", End::Blocked)]), None);
        assert!(row(&[found("t02_b", End::Blocked)]).is_some());
        assert!(row(&[found("t01_b", End::NotRun)]).is_some());
        assert!(row(&[found("t01_b", End::Blocked), found("t01_c", End::Failed)]).is_some());
    }

    #[test]
    fn an_attack_must_land_without_its_defence() {
        let row = |without| {
            let model = [ends("t01_a", without, End::Blocked)];
            Row::new((1, "x", Layers::Model), &model, &[]).wrong(Layers::Both)
        };
        assert_eq!((row(End::Landed), row(End::Detected)), (None, None));
        assert!(row(End::NotRun).is_some_and(|why| why.contains("shown")));
        assert!(row(End::NoAttack).is_some_and(|why| why.contains("shown")));
        assert!(row(End::PassedWithoutDefence).is_some_and(|why| why.contains("passes without")));
        assert!(row(End::Failed).is_some_and(|why| why.contains("fails")));
    }

    #[test]
    fn an_attack_may_land_only_where_the_catalogue_lists_it() {
        let payload = [found("t01_a", End::Landed)];
        let row = |layers| Row::new((1, "x", layers), &[], &payload).wrong(Layers::Both);
        assert!(row(Layers::Payload).is_some_and(|why| why.contains("lands")));
        assert_eq!(row(Layers::Elsewhere("open")), None);
    }

    #[test]
    fn an_unselected_layer_is_ignored() {
        let model = [found("t01_a", End::Blocked)];
        assert_eq!(Row::new((1, "x", Layers::Both), &model, &[]).wrong(Layers::Model), None);
    }
}
