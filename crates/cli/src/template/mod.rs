//! Go's `text/template` over JSON values, with the functions and error sentences of Docker's `--format`.
//!
//! `parse` makes a tree (parser), `Template::execute` walks it (exec). What a template can do is bounded:
//! nesting, recursion of `define`d templates, and the size of the output.
//! Not here: tables and the rows of commands (see `format`).

mod ast;
mod exec;
mod funcs;
mod lexer;
mod parser;
mod print;
mod structs;

pub use exec::{Data, Row};

use ast::Node;
use std::collections::HashMap;

/// A parsed template.
#[derive(Debug)]
pub struct Template {
    name: String,
    root: Vec<Node>,
    defined: HashMap<String, Vec<Node>>,
}

/// How missing map keys behave, and which functions a template sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Docker's functions; a missing field of JSON data is `<no value>`.
    Lenient,
    /// Docker's functions; a missing field is an error (`missingkey=error`), as `inspect` does.
    Strict,
    /// For the header of a table: `json`, `split`, `title`, .. leave the column's name alone.
    Header,
}

impl Template {
    /// Parses `text`; `name` appears in error messages (`template: NAME:1: ..`).
    pub fn parse(name: &str, text: &str) -> Result<Template, String> {
        parser::parse(name, text)
    }

    /// Runs the template on `data`.
    pub fn execute(&self, data: Data<'_>, mode: Mode) -> Result<String, String> {
        exec::run(self, data, mode)
    }

    /// Whether any part of the template reads field `name` (`.Size`), so that costly data is fetched only on demand.
    pub fn uses_field(&self, name: &str) -> bool {
        self.root
            .iter()
            .chain(self.defined.values().flatten())
            .any(|node| node.uses_field(name))
    }
}

#[cfg(test)]
mod tests;
