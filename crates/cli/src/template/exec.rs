//! Walks a parsed template over data.

use super::ast::{Command, Node, Operand, Pipeline, Place, Word};
use super::print::display;
use super::{Mode, Template, funcs};
use crate::go::json;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// How deep templates may call one another.
const DEPTH_MAX: usize = 200;
/// The most that a template may print.
const OUTPUT_MAX: usize = 64 << 20;
/// The most loop iterations in one run.
const STEPS_MAX: usize = 1_000_000;

/// One row of a table: named columns, and `.Label "key"` where the noun has labels.
#[derive(Debug, Default, Clone)]
pub struct Row {
    /// Go's name of the type, for `can't evaluate field X in type T`.
    pub type_name: &'static str,
    /// Columns by name. Printed by `json .` in sorted order.
    pub fields: Map<String, Value>,
    /// What `.Label "key"` looks up; `None` where the noun has no such method.
    pub labels: Option<Map<String, Value>>,
    /// A header answers `.Label "a.b-c"` with `b c` of the key's last part.
    pub header: bool,
}

impl Row {
    fn get(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        if name == "Label" {
            let labels = self.labels.as_ref()?;
            let Some(Value::String(key)) = args.first() else {
                return Some(Err(format!(
                    "wrong number of args for Label: want 1 got {}",
                    args.len()
                )));
            };
            if self.header {
                let last = key.rsplit('.').next().unwrap_or(key);
                return Some(Ok(last.replace(['-', '_'], " ").into()));
            }
            return Some(Ok(labels.get(key).cloned().unwrap_or_else(|| "".into())));
        }
        self.fields.get(name).map(|value| Ok(value.clone()))
    }

    /// The row as `json .` prints it: Go marshals a map, so keys are sorted and HTML is escaped.
    pub fn to_json(&self) -> String {
        let mut fields = self.fields.clone();
        fields.sort_keys();
        json::compact_escaped(&fields)
    }
}

/// What the dot is at the start.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// JSON as the daemon sent it.
    Json(&'a Value),
    /// A row of a table.
    Row(&'a Row),
}

#[derive(Clone, Debug)]
enum Val<'a> {
    Json(Cow<'a, Value>),
    Row(&'a Row),
}

impl Val<'_> {
    fn truth(&self) -> bool {
        match self {
            Val::Json(value) => funcs::truth(value),
            Val::Row(_) => true,
        }
    }

    fn into_value(self) -> Value {
        match self {
            Val::Json(value) => value.into_owned(),
            Val::Row(row) => Value::Object(row.fields.clone()),
        }
    }
}

/// Runs `template` on `data`.
pub fn run(template: &Template, data: Data<'_>, mode: Mode) -> Result<String, String> {
    let dot = match data {
        Data::Json(value) => Val::Json(Cow::Borrowed(value)),
        Data::Row(row) => Val::Row(row),
    };
    let mut state = State {
        template,
        mode,
        out: String::new(),
        variables: vec![("$".to_owned(), dot.clone())],
        depth: 0,
        steps: 0,
    };
    state.nodes(&template.root, &dot)?;
    Ok(state.out)
}

struct State<'a> {
    template: &'a Template,
    mode: Mode,
    out: String,
    variables: Vec<(String, Val<'a>)>,
    depth: usize,
    steps: usize,
}

#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

impl<'a> State<'a> {
    fn fail<T>(&self, place: &Place, message: &str) -> Result<T, String> {
        let name = &self.template.name;
        Err(format!(
            "template: {name}:{}:{}: executing {name:?} at <{}>: {message}",
            place.line, place.column, place.text
        ))
    }

    fn nodes(&mut self, nodes: &'a [Node], dot: &Val<'a>) -> Result<Flow, String> {
        let scope = self.variables.len();
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::On {
                self.variables.truncate(scope);
                return Ok(flow);
            }
            if self.out.len() > OUTPUT_MAX {
                return Err(format!(
                    "template: {}: output is larger than {OUTPUT_MAX} bytes",
                    self.template.name
                ));
            }
        }
        self.variables.truncate(scope);
        Ok(Flow::On)
    }

    fn node(&mut self, node: &'a Node, dot: &Val<'a>) -> Result<Flow, String> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.print(value, pipeline);
                }
            }
            Node::If {
                condition,
                then,
                otherwise,
            } => {
                let scope = self.variables.len();
                let chosen = if self.pipeline(condition, dot)?.truth() {
                    then
                } else {
                    otherwise
                };
                let flow = self.nodes(chosen, dot)?;
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::With {
                value,
                then,
                otherwise,
            } => {
                let scope = self.variables.len();
                let value = self.pipeline(value, dot)?;
                let flow = if value.truth() {
                    self.nodes(then, &value)?
                } else {
                    self.nodes(otherwise, dot)?
                };
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::Range {
                over,
                body,
                otherwise,
            } => return self.range(over, body, otherwise, dot),
            Node::Call {
                name,
                argument,
                place,
            } => self.call_template(name, argument.as_ref(), place, dot)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn print(&mut self, value: Val<'a>, pipeline: &Pipeline) {
        match value {
            Val::Json(value) if value.is_null() && self.mode == Mode::Strict => {
                self.out.push_str(absent(pipeline))
            }
            Val::Json(value) => self.out.push_str(&display(&value)),
            Val::Row(row) => self
                .out
                .push_str(&display(&Value::Object(row.fields.clone()))),
        }
    }

    fn call_template(
        &mut self,
        name: &str,
        argument: Option<&'a Pipeline>,
        place: &Place,
        dot: &Val<'a>,
    ) -> Result<(), String> {
        let template: &'a Template = self.template;
        let Some(nodes) = template.defined.get(name) else {
            return self.fail(place, &format!("template {name:?} not defined"));
        };
        if self.depth >= DEPTH_MAX {
            return self.fail(
                place,
                &format!("exceeded maximum template depth ({DEPTH_MAX})"),
            );
        }
        let argument = match argument {
            Some(pipeline) => self.pipeline(pipeline, dot)?,
            None => Val::Json(Cow::Owned(Value::Null)),
        };
        let variables =
            std::mem::replace(&mut self.variables, vec![("$".into(), argument.clone())]);
        self.depth += 1;
        let result = self.nodes(nodes, &argument);
        self.depth -= 1;
        self.variables = variables;
        result.map(|_| ())
    }

    fn range(
        &mut self,
        over: &'a Pipeline,
        body: &'a [Node],
        otherwise: &'a [Node],
        dot: &Val<'a>,
    ) -> Result<Flow, String> {
        let scope = self.variables.len();
        let value = self.pipeline_value(over, dot)?;
        // One at a time: a number may be large.
        let items: Box<dyn Iterator<Item = (Value, Val<'a>)>> = match value {
            Val::Json(Cow::Borrowed(value)) => {
                let items = pairs(value).into_iter();
                Box::new(items.map(|(key, item)| (key, Val::Json(Cow::Borrowed(item)))))
            }
            Val::Json(Cow::Owned(value)) => match count(&value) {
                Some(count) => {
                    Box::new((0..count).map(|n| (n.into(), Val::Json(Cow::Owned(n.into())))))
                }
                None => {
                    let owned =
                        |(key, item): (Value, &Value)| (key, Val::Json(Cow::Owned(item.clone())));
                    let items: Vec<_> = pairs(&value).into_iter().map(owned).collect();
                    Box::new(items.into_iter())
                }
            },
            Val::Row(_) => Box::new(std::iter::empty()),
        };
        let mut items = items.peekable();
        if items.peek().is_none() {
            let flow = self.nodes(otherwise, dot)?;
            self.variables.truncate(scope);
            return Ok(flow);
        }
        for (key, item) in items {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return Err(format!(
                    "template: {}: more than {STEPS_MAX} iterations",
                    self.template.name
                ));
            }
            self.variables.truncate(scope);
            self.bind_range(over, key, &item);
            match self.nodes(body, &item)? {
                Flow::On | Flow::Continue => {}
                Flow::Break => break,
            }
        }
        self.variables.truncate(scope);
        Ok(Flow::On)
    }

    fn bind_range(&mut self, over: &Pipeline, key: Value, item: &Val<'a>) {
        let key = Val::Json(Cow::Owned(key));
        let bound: Vec<(&String, Val<'a>)> = match over.variables.as_slice() {
            [] => return,
            [one] => vec![(one, item.clone())],
            [first, second, ..] => vec![(first, key), (second, item.clone())],
        };
        for (name, value) in bound {
            self.set(name, value, over.assign);
        }
    }

    fn set(&mut self, name: &str, value: Val<'a>, assign: bool) {
        if assign
            && let Some(slot) = self
                .variables
                .iter_mut()
                .rev()
                .find(|(known, _)| known == name)
        {
            slot.1 = value;
            return;
        }
        self.variables.push((name.to_owned(), value));
    }

    fn pipeline(&mut self, pipeline: &'a Pipeline, dot: &Val<'a>) -> Result<Val<'a>, String> {
        let value = self.pipeline_value(pipeline, dot)?;
        for name in &pipeline.variables {
            self.set(name, value.clone(), pipeline.assign);
        }
        Ok(value)
    }

    fn pipeline_value(&mut self, pipeline: &'a Pipeline, dot: &Val<'a>) -> Result<Val<'a>, String> {
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, dot, value)?);
        }
        Ok(value.unwrap_or(Val::Json(Cow::Owned(Value::Null))))
    }

    fn command(
        &mut self,
        command: &'a Command,
        dot: &Val<'a>,
        last: Option<Val<'a>>,
    ) -> Result<Val<'a>, String> {
        let Some((first, rest)) = command.words.split_first() else {
            return Ok(Val::Json(Cow::Owned(Value::Null)));
        };
        let has_args = !rest.is_empty() || last.is_some();
        match &first.operand {
            Operand::Function(name) => self.function(name, first, rest, dot, last),
            Operand::Field(path) => self.path(dot.clone(), path, first, rest, dot, last),
            Operand::Variable(name, path) => {
                let start = self.variable(name);
                if path.is_empty() && has_args {
                    return self.fail(&first.place, "can't give argument to non-function");
                }
                self.path(start, path, first, rest, dot, last)
            }
            Operand::Nested(pipeline, path) => {
                let start = self.pipeline_value(pipeline, dot)?;
                if path.is_empty() && has_args {
                    return self.fail(
                        &first.place,
                        &format!("can't give argument to non-function {}", first.place.text),
                    );
                }
                self.path(start, path, first, rest, dot, last)
            }
            Operand::Nil => self.fail(&first.place, "nil is not a command"),
            Operand::Dot
            | Operand::Bool(_)
            | Operand::Int(_)
            | Operand::Float(_)
            | Operand::Text(_) => {
                if has_args {
                    return self.fail(
                        &first.place,
                        &format!("can't give argument to non-function {}", first.place.text),
                    );
                }
                self.word(first, dot)
            }
        }
    }

    fn variable(&self, name: &str) -> Val<'a> {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        found.map_or(Val::Json(Cow::Owned(Value::Null)), |(_, value)| {
            value.clone()
        })
    }

    /// The value of a word that stands as an argument.
    fn word(&mut self, word: &'a Word, dot: &Val<'a>) -> Result<Val<'a>, String> {
        let value = match &word.operand {
            Operand::Dot => return Ok(dot.clone()),
            Operand::Nil => Value::Null,
            Operand::Bool(flag) => (*flag).into(),
            Operand::Int(number) => (*number).into(),
            Operand::Float(number) => (*number).into(),
            Operand::Text(text) => text.as_str().into(),
            Operand::Field(path) => return self.path(dot.clone(), path, word, &[], dot, None),
            Operand::Variable(name, path) => {
                return self.path(self.variable(name), path, word, &[], dot, None);
            }
            Operand::Function(name) => return self.function(name, word, &[], dot, None),
            Operand::Nested(pipeline, path) => {
                let start = self.pipeline_value(pipeline, dot)?;
                return self.path(start, path, word, &[], dot, None);
            }
        };
        Ok(Val::Json(Cow::Owned(value)))
    }

    fn function(
        &mut self,
        name: &str,
        word: &Word,
        rest: &'a [Word],
        dot: &Val<'a>,
        last: Option<Val<'a>>,
    ) -> Result<Val<'a>, String> {
        if name == "and" || name == "or" {
            return self.and_or(name == "and", word, rest, dot, last);
        }
        let mut args: Vec<Val<'a>> = Vec::with_capacity(rest.len() + 1);
        for argument in rest {
            args.push(self.word(argument, dot)?);
        }
        args.extend(last);
        if name == "json"
            && self.mode != Mode::Header
            && let [Val::Row(row)] = args.as_slice()
        {
            return Ok(Val::Json(Cow::Owned(row.to_json().into())));
        }
        let args = args.into_iter().map(Val::into_value).collect();
        match funcs::call(name, args, self.mode) {
            Ok(value) => Ok(Val::Json(Cow::Owned(value))),
            Err(message) => self.fail(&word.place, &message),
        }
    }

    fn and_or(
        &mut self,
        and: bool,
        word: &Word,
        rest: &'a [Word],
        dot: &Val<'a>,
        last: Option<Val<'a>>,
    ) -> Result<Val<'a>, String> {
        let mut value = None;
        for argument in rest {
            let next = self.word(argument, dot)?;
            if next.truth() != and {
                return Ok(next);
            }
            value = Some(next);
        }
        match last.or(value) {
            Some(value) => Ok(value),
            None => {
                let name = if and { "and" } else { "or" };
                self.fail(
                    &word.place,
                    &format!("wrong number of args for {name}: want at least 1 got 0"),
                )
            }
        }
    }

    /// Follows `path` from `start`; arguments belong to its last element.
    fn path(
        &mut self,
        start: Val<'a>,
        path: &[String],
        word: &Word,
        rest: &'a [Word],
        dot: &Val<'a>,
        last: Option<Val<'a>>,
    ) -> Result<Val<'a>, String> {
        let mut args = Vec::new();
        for argument in rest {
            args.push(self.word(argument, dot)?.into_value());
        }
        args.extend(last.map(Val::into_value));
        let mut value = start;
        for (index, name) in path.iter().enumerate() {
            let final_args = if index + 1 == path.len() {
                args.as_slice()
            } else {
                &[]
            };
            value = self.field(value, name, final_args, word)?;
        }
        Ok(value)
    }

    fn field(
        &self,
        value: Val<'a>,
        name: &str,
        args: &[Value],
        word: &Word,
    ) -> Result<Val<'a>, String> {
        let json = match value {
            Val::Row(row) => {
                return match row.get(name, args) {
                    Some(Ok(found)) => Ok(Val::Json(Cow::Owned(found))),
                    Some(Err(message)) => self.fail(&word.place, &message),
                    None if row.header => Ok(Val::Json(Cow::Owned(Value::Null))),
                    None => self.fail(
                        &word.place,
                        &format!("can't evaluate field {name} in type {}", row.type_name),
                    ),
                };
            }
            Val::Json(json) => json,
        };
        if !args.is_empty() {
            return self.fail(
                &word.place,
                &format!("{name} is not a method but has arguments"),
            );
        }
        match json {
            Cow::Borrowed(Value::Object(map)) => match lookup(map, name) {
                Some(found) => Ok(Val::Json(Cow::Borrowed(found))),
                None => self.missing(name, word),
            },
            Cow::Owned(Value::Object(mut map)) => {
                match lookup_key(&map, name).and_then(|key| map.swap_remove(&key)) {
                    Some(found) => Ok(Val::Json(Cow::Owned(found))),
                    None => self.missing(name, word),
                }
            }
            other => match other.as_ref() {
                Value::Null => self.fail(
                    &word.place,
                    &format!("nil pointer evaluating interface {{}}.{name}"),
                ),
                _ => self.fail(
                    &word.place,
                    &format!("can't evaluate field {name} in type interface {{}}"),
                ),
            },
        }
    }

    fn missing(&self, name: &str, word: &Word) -> Result<Val<'a>, String> {
        if self.mode == Mode::Strict {
            return self.fail(&word.place, &format!("map has no entry for key {name:?}"));
        }
        Ok(Val::Json(Cow::Owned(Value::Null)))
    }
}

/// How Go prints a null of Docker's structures: lists and maps as empty ones, pointers as `<nil>`.
fn absent(pipeline: &Pipeline) -> &'static str {
    const LISTS: [&str; 36] = [
        "Aliases",
        "Binds",
        "BlkioDeviceReadBps",
        "BlkioDeviceReadIOps",
        "BlkioDeviceWriteBps",
        "BlkioDeviceWriteIOps",
        "BlkioWeightDevice",
        "CapAdd",
        "CapDrop",
        "Cmd",
        "Config",
        "DNSNames",
        "DeviceCgroupRules",
        "DeviceRequests",
        "Devices",
        "Dns",
        "DnsOptions",
        "DnsSearch",
        "Entrypoint",
        "Env",
        "ExecIDs",
        "ExtraHosts",
        "GroupAdd",
        "Links",
        "MaskedPaths",
        "Mounts",
        "OnBuild",
        "ReadonlyPaths",
        "RepoDigests",
        "RepoTags",
        "SecondaryIPAddresses",
        "SecurityOpt",
        "Shell",
        "Ulimits",
        "VolumesFrom",
        "Warnings",
    ];
    const MAPS: [&str; 14] = [
        "Annotations",
        "AuxiliaryAddresses",
        "Containers",
        "DriverOpts",
        "ExposedPorts",
        "Labels",
        "Networks",
        "Options",
        "PortBindings",
        "Ports",
        "StorageOpt",
        "Sysctls",
        "Tmpfs",
        "Volumes",
    ];
    let word = pipeline
        .commands
        .last()
        .and_then(|command| command.words.first());
    let name = match word.map(|word| &word.operand) {
        Some(Operand::Field(path) | Operand::Variable(_, path) | Operand::Nested(_, path)) => {
            path.last()
        }
        _ => None,
    };
    match name.map(String::as_str) {
        None => "<no value>",
        Some(name) if LISTS.contains(&name) => "[]",
        Some(name) if MAPS.contains(&name) => "map[]",
        Some(_) => "<nil>",
    }
}

/// Docker's Go structures name some fields otherwise than their JSON (`ID` and `Id`): either is found.
fn lookup<'m>(map: &'m Map<String, Value>, name: &str) -> Option<&'m Value> {
    map.get(name)
        .or_else(|| lookup_key(map, name).and_then(|key| map.get(&key)))
}

fn lookup_key(map: &Map<String, Value>, name: &str) -> Option<String> {
    if map.contains_key(name) {
        return Some(name.to_owned());
    }
    let initialisms = [
        "id", "ip", "url", "cpu", "dns", "os", "io", "uts", "api", "ipam", "ipv4", "ipv6", "pid",
    ];
    let folded = name.to_ascii_lowercase();
    initialisms
        .iter()
        .any(|part| folded.contains(part))
        .then(|| {
            map.keys()
                .find(|key| key.eq_ignore_ascii_case(name))
                .cloned()
        })
        .flatten()
}

fn count(value: &Value) -> Option<i64> {
    value.as_i64()
}

fn pairs(value: &Value) -> Vec<(Value, &Value)> {
    match value {
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(index, item)| (index.into(), item))
            .collect(),
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            entries
                .into_iter()
                .map(|(key, item)| (key.as_str().into(), item))
                .collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}
