//! The tree of a parsed template. Positions are (line from 1, column from 0), as Go reports them.

/// Where an operand stands, and its text as Go prints it in errors.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub line: usize,
    pub column: usize,
    pub text: String,
}

/// One element of a template.
#[derive(Clone, Debug)]
pub enum Node {
    Text(String),
    Action(Pipeline),
    If {
        condition: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        value: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Call {
        name: String,
        argument: Option<Pipeline>,
        place: Place,
    },
    Break,
    Continue,
}

/// `$a, $b := first | second`.
#[derive(Clone, Debug, Default)]
pub struct Pipeline {
    pub variables: Vec<String>,
    /// `=` to an existing variable and not `:=`.
    pub assign: bool,
    pub commands: Vec<Command>,
}

/// A function or operand followed by its arguments.
#[derive(Clone, Debug)]
pub struct Command {
    pub words: Vec<Word>,
}

/// An operand and where it stands.
#[derive(Clone, Debug)]
pub struct Word {
    pub operand: Operand,
    pub place: Place,
}

/// What may stand as an argument.
#[derive(Clone, Debug)]
pub enum Operand {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// `.A.B`
    Field(Vec<String>),
    /// `$x.A`; the root is the name `$`.
    Variable(String, Vec<String>),
    Function(String),
    /// `(pipeline).A`
    Nested(Box<Pipeline>, Vec<String>),
}

impl Node {
    /// Whether this node or one inside reads `.name`.
    pub fn uses_field(&self, name: &str) -> bool {
        let any = |nodes: &[Node]| nodes.iter().any(|node| node.uses_field(name));
        match self {
            Node::Text(_) | Node::Break | Node::Continue => false,
            Node::Action(pipeline) => pipeline.uses_field(name),
            Node::If {
                condition: head,
                then,
                otherwise,
            }
            | Node::With {
                value: head,
                then,
                otherwise,
            }
            | Node::Range {
                over: head,
                body: then,
                otherwise,
            } => head.uses_field(name) || any(then) || any(otherwise),
            Node::Call { argument, .. } => argument.as_ref().is_some_and(|p| p.uses_field(name)),
        }
    }
}

impl Pipeline {
    fn uses_field(&self, name: &str) -> bool {
        self.commands
            .iter()
            .flat_map(|command| &command.words)
            .any(|word| match &word.operand {
                Operand::Dot => true,
                Operand::Field(path) | Operand::Variable(_, path) => {
                    path.first().is_some_and(|first| first == name)
                }
                Operand::Nested(pipeline, _) => pipeline.uses_field(name),
                Operand::Nil
                | Operand::Bool(_)
                | Operand::Int(_)
                | Operand::Float(_)
                | Operand::Text(_)
                | Operand::Function(_) => false,
            })
    }
}
