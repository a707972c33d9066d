//! One line for each finding.

use std::fmt::Display;
use std::process::ExitCode;

/// What was found so far.
#[derive(Debug, Default)]
pub struct Report {
    pub wrong: u32,
    pub doubtful: u32,
    /// What a test looks at.
    #[cfg(test)]
    pub lines: Vec<String>,
}

impl Report {
    fn line(&mut self, mark: &str, what: &str, text: &dyn Display) {
        let line = format!("{mark:<5} {what:<11} {text}");
        println!("{line}");
        #[cfg(test)]
        self.lines.push(line);
    }

    /// Nothing is wrong with it.
    pub fn good(&mut self, what: &str, text: impl Display) {
        self.line("ok", what, &text);
    }

    /// Some programs may miss it.
    pub fn doubtful(&mut self, what: &str, text: impl Display) {
        self.doubtful += 1;
        self.line("note", what, &text);
    }

    /// Programs do not work because of it.
    pub fn wrong(&mut self, what: &str, text: impl Display) {
        self.wrong += 1;
        self.line("WRONG", what, &text);
    }

    /// It could not be looked at.
    pub fn skipped(&mut self, what: &str, why: impl Display) {
        self.line("-", what, &format_args!("not checked: {why}"));
    }

    /// The last line, and the exit status.
    pub fn end(&mut self) -> ExitCode {
        if self.wrong > 0 {
            println!("{} wrong, {} to note", self.wrong, self.doubtful);
            return ExitCode::FAILURE;
        }
        println!("nothing is wrong, {} to note", self.doubtful);
        ExitCode::SUCCESS
    }
}
