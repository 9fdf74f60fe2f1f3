//! Builds the tree of a template from its tokens, with Go's error sentences.

use super::Template;
use super::ast::{Command, Node, Operand, Pipeline, Place, Word};
use super::funcs;
use super::lexer::{Kind, Token, lex};
use crate::go::strconv;
use std::collections::HashMap;

/// How deep blocks and parentheses may nest.
const DEPTH_MAX: usize = 100;

/// Parses `text`.
pub fn parse(name: &str, text: &str) -> Result<Template, String> {
    let fail =
        |at: usize, message: String| format!("template: {name}:{}: {message}", line_of(text, at));
    let tokens = lex(text).map_err(|(at, message)| fail(at, message))?;
    let mut parser = Parser {
        text,
        tokens,
        at: 0,
        depth: 0,
        loops: 0,
        variables: vec!["$".into()],
        defined: HashMap::new(),
    };
    let (root, end) = parser.list().map_err(|(at, message)| fail(at, message))?;
    if let Some((at, keyword)) = end {
        return Err(fail(at, format!("unexpected {{{{{keyword}}}}}")));
    }
    Ok(Template {
        name: name.into(),
        root,
        defined: parser.defined,
    })
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at.min(text.len())]
        .iter()
        .filter(|&&b| b == b'\n')
        .count()
}

type Failure = (usize, String);
/// A list of nodes, and the keyword (`end`, `else`) that closed it.
type Listed = (Vec<Node>, Option<(usize, String)>);

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    loops: usize,
    variables: Vec<String>,
    defined: HashMap<String, Vec<Node>>,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.at += 1;
        }
    }

    fn next_word(&mut self) -> Token {
        self.skip_space();
        self.next()
    }

    fn place(&self, at: usize, text: String) -> Place {
        let before = &self.text[..at.min(self.text.len())];
        let column = before.rfind('\n').map_or(at, |newline| at - newline - 1);
        Place {
            line: line_of(self.text, at),
            column,
            text,
        }
    }

    fn deeper<T>(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if self.depth >= DEPTH_MAX {
            return Err((self.peek().at, "max expression depth exceeded".into()));
        }
        self.depth += 1;
        let result = run(self);
        self.depth -= 1;
        result
    }

    fn list(&mut self) -> Result<Listed, Failure> {
        let mut nodes = Vec::new();
        loop {
            let token = self.next();
            match token.kind {
                Kind::End => return Ok((nodes, None)),
                Kind::Text(text) => nodes.push(Node::Text(text)),
                _ => {
                    self.skip_space();
                    if let Kind::Word(word) = self.peek().kind.clone() {
                        if word == "end" || word == "else" {
                            let at = self.next().at;
                            return Ok((nodes, Some((at, word))));
                        }
                        if let Some(node) = self.keyword(&word)? {
                            nodes.extend(node);
                            continue;
                        }
                    }
                    let mark = self.peek().at;
                    let pipeline = self.pipeline("command", &Kind::Close)?;
                    if pipeline.commands.is_empty() {
                        return Err((mark, "missing value for command".into()));
                    }
                    nodes.push(Node::Action(pipeline));
                }
            }
        }
    }

    /// A control structure, or `None` when the word is a function.
    fn keyword(&mut self, word: &str) -> Result<Option<Option<Node>>, Failure> {
        if !matches!(
            word,
            "if" | "with" | "range" | "break" | "continue" | "template" | "define" | "block"
        ) {
            return Ok(None);
        }
        let at = self.next().at;
        let node = match word {
            "if" => Some(self.control("if", at)?),
            "with" => Some(self.control("with", at)?),
            "range" => Some(self.control("range", at)?),
            "break" | "continue" => {
                self.close(word)?;
                if self.loops == 0 {
                    return Err((at, format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                Some(if word == "break" {
                    Node::Break
                } else {
                    Node::Continue
                })
            }
            "template" => Some(self.template_call(at)?),
            "define" => {
                self.define(at, false)?;
                None
            }
            _ => Some(self.define(at, true)?),
        };
        Ok(Some(node))
    }

    fn close(&mut self, context: &str) -> Result<(), Failure> {
        let token = self.next_word();
        if token.kind == Kind::Close {
            Ok(())
        } else {
            Err(unexpected(&token, &format!("{{{{{context}}}}}")))
        }
    }

    fn control(&mut self, word: &str, at: usize) -> Result<Node, Failure> {
        let scope = self.variables.len();
        let node = self.deeper(|parser| parser.control_inner(word, at));
        self.variables.truncate(scope);
        node
    }

    fn control_inner(&mut self, word: &str, at: usize) -> Result<Node, Failure> {
        let head = self.pipeline(word, &Kind::Close)?;
        if head.commands.is_empty() {
            return Err((at, format!("missing value for {word}")));
        }
        if word == "range" {
            self.loops += 1;
        }
        let listed = self.list();
        if word == "range" {
            self.loops -= 1;
        }
        let (then, end) = listed?;
        let otherwise = match end {
            None => return Err((self.text.len(), "unexpected EOF".into())),
            Some((_, keyword)) if keyword == "end" => {
                self.close("end")?;
                Vec::new()
            }
            Some(_) => self.otherwise(word)?,
        };
        Ok(match word {
            "if" => Node::If {
                condition: head,
                then,
                otherwise,
            },
            "with" => Node::With {
                value: head,
                then,
                otherwise,
            },
            _ => Node::Range {
                over: head,
                body: then,
                otherwise,
            },
        })
    }

    /// What follows `else`: another condition, or a list up to `end`.
    fn otherwise(&mut self, word: &str) -> Result<Vec<Node>, Failure> {
        self.skip_space();
        if let Kind::Word(next) = self.peek().kind.clone()
            && next == word
            && word != "range"
        {
            let at = self.next().at;
            return Ok(vec![self.control(word, at)?]);
        }
        self.close("else")?;
        let (nodes, end) = self.list()?;
        match end {
            None => Err((self.text.len(), "unexpected EOF".into())),
            Some((at, keyword)) if keyword == "else" => {
                Err((at, "expected end; found {{else}}".into()))
            }
            Some(_) => {
                self.close("end")?;
                Ok(nodes)
            }
        }
    }

    fn template_name(&mut self, context: &str) -> Result<(usize, String), Failure> {
        let token = self.next_word();
        match token.kind {
            Kind::Quoted(name) => Ok((token.at, name)),
            _ => Err(unexpected(&token, context)),
        }
    }

    fn template_call(&mut self, at: usize) -> Result<Node, Failure> {
        let (_, name) = self.template_name("template clause")?;
        self.skip_space();
        let argument = if self.peek().kind == Kind::Close {
            self.next();
            None
        } else {
            Some(self.pipeline("template clause", &Kind::Close)?)
        };
        let text = format!("{{{{template {}}}}}", strconv::quote(&name));
        Ok(Node::Call {
            name,
            argument,
            place: self.place(at, text),
        })
    }

    fn define(&mut self, at: usize, block: bool) -> Result<Node, Failure> {
        let (_, name) = self.template_name(if block {
            "block clause"
        } else {
            "define clause"
        })?;
        let argument = if block {
            Some(self.pipeline("block clause", &Kind::Close)?)
        } else {
            None
        };
        if !block {
            self.close("define clause")?;
        }
        let variables = std::mem::replace(&mut self.variables, vec!["$".into()]);
        let (nodes, end) = self.deeper(Self::list)?;
        self.variables = variables;
        match end {
            Some((_, keyword)) if keyword == "end" => self.close("end")?,
            Some((at, keyword)) => {
                return Err((at, format!("unexpected {{{{{keyword}}}}} in define clause")));
            }
            None => return Err((self.text.len(), "unexpected EOF".into())),
        }
        self.defined.insert(name.clone(), nodes);
        let text = format!("{{{{template {}}}}}", strconv::quote(&name));
        Ok(Node::Call {
            name,
            argument,
            place: self.place(at, text),
        })
    }

    fn pipeline(&mut self, context: &str, end: &Kind) -> Result<Pipeline, Failure> {
        self.deeper(|parser| parser.pipeline_inner(context, end))
    }

    fn pipeline_inner(&mut self, context: &str, end: &Kind) -> Result<Pipeline, Failure> {
        let mut pipeline = self.declarations(context)?;
        loop {
            self.skip_space();
            let token = self.peek().clone();
            if token.kind == *end {
                self.next();
                if pipeline.commands.is_empty() && !pipeline.variables.is_empty() {
                    return Err((token.at, format!("missing value for {context}")));
                }
                return Ok(pipeline);
            }
            if !starts_operand(&token.kind) {
                return Err(unexpected(&token, context));
            }
            let command = self.command(end)?;
            let first_is_value = command.words.first().is_some_and(|word| {
                matches!(
                    word.operand,
                    Operand::Bool(_)
                        | Operand::Dot
                        | Operand::Nil
                        | Operand::Int(_)
                        | Operand::Float(_)
                        | Operand::Text(_)
                )
            });
            if !pipeline.commands.is_empty() && first_is_value {
                return Err((
                    token.at,
                    format!(
                        "non executable command in pipeline stage {}",
                        pipeline.commands.len() + 1
                    ),
                ));
            }
            pipeline.commands.push(command);
        }
    }

    /// `$x :=`, `$x =`, `$i, $x :=`; nothing is consumed when there is no assignment.
    fn declarations(&mut self, context: &str) -> Result<Pipeline, Failure> {
        let mark = self.at;
        let mut names = Vec::new();
        loop {
            self.skip_space();
            let Kind::Variable(name) = self.peek().kind.clone() else {
                break;
            };
            self.next();
            names.push(name);
            self.skip_space();
            match self.peek().kind {
                Kind::Comma if context == "range" && names.len() < 2 => {
                    self.next();
                }
                Kind::Declare | Kind::Assign => {
                    let assign = self.next().kind == Kind::Assign;
                    if assign
                        && let Some(unknown) =
                            names.iter().find(|name| !self.variables.contains(name))
                    {
                        return Err((
                            self.peek().at,
                            format!("undefined variable {}", strconv::quote(unknown)),
                        ));
                    }
                    if !assign {
                        self.variables.extend(names.iter().cloned());
                    }
                    return Ok(Pipeline {
                        variables: names,
                        assign,
                        commands: Vec::new(),
                    });
                }
                _ => break,
            }
        }
        self.at = mark;
        Ok(Pipeline::default())
    }

    fn command(&mut self, end: &Kind) -> Result<Command, Failure> {
        let mut words = Vec::new();
        loop {
            self.skip_space();
            if let Some(word) = self.operand()? {
                words.push(word);
            }
            let token = self.next();
            match token.kind {
                Kind::Space => {
                    self.skip_space();
                    let next = self.peek().clone();
                    if next.kind == *end {
                        break;
                    }
                    if next.kind == Kind::Pipe {
                        self.next();
                        self.after_pipe(end)?;
                        break;
                    }
                }
                Kind::Pipe => {
                    self.after_pipe(end)?;
                    break;
                }
                kind if kind == *end || kind == Kind::Close || kind == Kind::RightParen => {
                    self.at -= 1;
                    break;
                }
                _ => return Err(unexpected(&token, "operand")),
            }
        }
        if words.is_empty() {
            return Err((self.peek().at, "empty command".into()));
        }
        Ok(Command { words })
    }

    fn after_pipe(&mut self, end: &Kind) -> Result<(), Failure> {
        self.skip_space();
        let next = self.peek();
        if next.kind == *end {
            Err((next.at, "missing value for command".into()))
        } else {
            Ok(())
        }
    }

    fn operand(&mut self) -> Result<Option<Word>, Failure> {
        let token = self.peek().clone();
        let (operand, text) = match token.kind {
            Kind::Word(word) => {
                self.next();
                self.word(token.at, word)?
            }
            Kind::Dot => {
                self.next();
                (Operand::Dot, ".".to_owned())
            }
            Kind::Variable(name) => {
                self.next();
                if !self.variables.contains(&name) {
                    return Err((
                        token.at,
                        format!("undefined variable {}", strconv::quote(&name)),
                    ));
                }
                (Operand::Variable(name.clone(), Vec::new()), name)
            }
            Kind::Field(name) => {
                self.next();
                let text = format!(".{name}");
                (Operand::Field(vec![name]), text)
            }
            Kind::Char(c) => {
                self.next();
                (Operand::Int(c as i64), format!("'{c}'"))
            }
            Kind::Number(text) => {
                self.next();
                let operand = match strconv::parse_int(&text) {
                    Ok(value) => Operand::Int(value),
                    Err(_) => {
                        Operand::Float(strconv::parse_float(&text).map_err(|e| (token.at, e))?)
                    }
                };
                (operand, text)
            }
            Kind::Quoted(text) => {
                self.next();
                let quoted = strconv::quote(&text);
                (Operand::Text(text), quoted)
            }
            Kind::LeftParen => {
                self.next();
                let start = token.at;
                let pipeline = self.pipeline("parenthesized pipeline", &Kind::RightParen)?;
                let end = self.tokens[self.at - 1].at + 1;
                let text = self.text.get(start..end).unwrap_or("").to_owned();
                (Operand::Nested(Box::new(pipeline), Vec::new()), text)
            }
            _ => return Ok(None),
        };
        self.chain(token.at, operand, text).map(Some)
    }

    fn word(&self, at: usize, word: String) -> Result<(Operand, String), Failure> {
        let operand = match word.as_str() {
            "true" => Operand::Bool(true),
            "false" => Operand::Bool(false),
            "nil" => Operand::Nil,
            name if funcs::exists(name) => Operand::Function(word.clone()),
            name => return Err((at, format!("function {} not defined", strconv::quote(name)))),
        };
        Ok((operand, word))
    }

    /// Fields that follow an operand without a space. Go reports such a chain at its second field.
    fn chain(
        &mut self,
        at: usize,
        mut operand: Operand,
        mut text: String,
    ) -> Result<Word, Failure> {
        let mut place_at = at;
        let mut first = true;
        while let Kind::Field(name) = self.peek().kind.clone() {
            let token = self.next();
            if first {
                place_at = token.at;
                first = false;
            }
            text.push('.');
            text.push_str(&name);
            match &mut operand {
                Operand::Field(path) | Operand::Variable(_, path) | Operand::Nested(_, path) => {
                    path.push(name)
                }
                Operand::Bool(_)
                | Operand::Text(_)
                | Operand::Int(_)
                | Operand::Float(_)
                | Operand::Nil
                | Operand::Dot => {
                    return Err((
                        token.at,
                        format!("unexpected . after term {}", strconv::quote(&text)),
                    ));
                }
                Operand::Function(function) => {
                    let call = Command {
                        words: vec![Word {
                            operand: Operand::Function(function.clone()),
                            place: self.place(at, function.clone()),
                        }],
                    };
                    let pipeline = Pipeline {
                        commands: vec![call],
                        ..Pipeline::default()
                    };
                    operand = Operand::Nested(Box::new(pipeline), vec![name]);
                }
            }
        }
        Ok(Word {
            operand,
            place: self.place(place_at, text),
        })
    }
}

fn starts_operand(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Word(_)
            | Kind::Number(_)
            | Kind::Quoted(_)
            | Kind::Char(_)
            | Kind::Dot
            | Kind::Field(_)
            | Kind::Variable(_)
            | Kind::LeftParen
    )
}

fn unexpected(token: &Token, context: &str) -> Failure {
    let what = match &token.kind {
        Kind::End => "EOF".to_owned(),
        Kind::Close => "\"}}\"".into(),
        Kind::Open => "\"{{\"".into(),
        Kind::Space => "\" \"".into(),
        Kind::Pipe => "\"|\"".into(),
        Kind::Comma => "\",\"".into(),
        Kind::LeftParen => "\"(\"".into(),
        Kind::RightParen => "\")\"".into(),
        Kind::Declare => "\":=\"".into(),
        Kind::Assign => "\"=\"".into(),
        Kind::Dot => "<.>".into(),
        Kind::Text(text) | Kind::Quoted(text) => strconv::quote(text),
        Kind::Field(name) => format!("<.{name}>"),
        Kind::Variable(name) => strconv::quote(name),
        Kind::Word(word) => format!("<{word}>"),
        Kind::Number(text) => strconv::quote(text),
        Kind::Char(c) => format!("'{c}'"),
    };
    (token.at, format!("unexpected {what} in {context}"))
}
