//! Compiles the regular expressions of the code.

use regex::Regex;

/// A constant pattern. One that does not compile ends the program: a rule must not be off because of it.
pub fn pattern(expression: &str) -> Regex {
    Regex::new(expression).unwrap_or_else(|error| unreachable!("{error}"))
}
