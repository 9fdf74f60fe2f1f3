//! Splits template text into text and the tokens of its actions.

/// A token and its byte offset in the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub at: usize,
    pub kind: Kind,
}

/// The kinds of tokens; names follow Go's lexer.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Text(String),
    Open,
    Close,
    Space,
    Pipe,
    Comma,
    LeftParen,
    RightParen,
    Declare,
    Assign,
    Dot,
    Field(String),
    Variable(String),
    Word(String),
    Number(String),
    Char(char),
    Quoted(String),
    End,
}

/// Lexes the whole text. The error is (offset, message).
pub fn lex(text: &str) -> Result<Vec<Token>, (usize, String)> {
    let mut tokens = Vec::new();
    let mut at = 0;
    let mut trim_next = false;
    loop {
        let open = text[at..].find("{{").map(|found| at + found);
        let mut piece = &text[at..open.unwrap_or(text.len())];
        if trim_next {
            piece = piece.trim_start_matches(SPACES);
        }
        let Some(open) = open else {
            push_text(&mut tokens, at, piece);
            break;
        };
        let mut inside = open + 2;
        if trims_left(&text[inside..]) {
            piece = piece.trim_end_matches(SPACES);
            inside += 2;
        }
        push_text(&mut tokens, at, piece);
        let (next, trim) = if text[inside..].starts_with("/*") {
            comment(text, open, inside)?
        } else {
            tokens.push(Token {
                at: open,
                kind: Kind::Open,
            });
            action(text, inside, &mut tokens)?
        };
        at = next;
        trim_next = trim;
    }
    tokens.push(Token {
        at: text.len(),
        kind: Kind::End,
    });
    Ok(tokens)
}

const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

fn push_text(tokens: &mut Vec<Token>, at: usize, piece: &str) {
    if !piece.is_empty() {
        tokens.push(Token {
            at,
            kind: Kind::Text(piece.to_owned()),
        });
    }
}

fn trims_left(rest: &str) -> bool {
    let bytes = rest.as_bytes();
    bytes.len() > 1 && bytes[0] == b'-' && SPACES.contains(&(bytes[1] as char))
}

fn comment(text: &str, open: usize, inside: usize) -> Result<(usize, bool), (usize, String)> {
    let close = text[inside..]
        .find("*/")
        .map(|found| inside + found + 2)
        .ok_or((open, "unclosed comment".to_owned()))?;
    let rest = &text[close..];
    let trimmed = rest.trim_start_matches(SPACES);
    if rest.starts_with("}}") {
        return Ok((close + 2, false));
    }
    if trimmed.len() < rest.len() && trimmed.starts_with("-}}") {
        return Ok((text.len() - trimmed.len() + 3, true));
    }
    Err((open, "comment ends before closing delimiter".into()))
}

/// Lexes from `at` to the closing delimiter; gives the offset after it and whether it trims.
fn action(
    text: &str,
    mut at: usize,
    tokens: &mut Vec<Token>,
) -> Result<(usize, bool), (usize, String)> {
    let start = at;
    let mut parens = 0usize;
    loop {
        let rest = &text[at..];
        if let Some((length, trim)) = closing(rest) {
            if parens > 0 {
                return Err((at, "unclosed left paren".into()));
            }
            tokens.push(Token {
                at,
                kind: Kind::Close,
            });
            return Ok((at + length, trim));
        }
        let Some(c) = rest.chars().next() else {
            return Err((start.max(at), "unclosed action".into()));
        };
        let (kind, length) = match c {
            ' ' | '\t' | '\r' | '\n' => {
                let trimmed = rest.trim_start_matches(SPACES);
                let length = rest.len() - trimmed.len();
                // The space before `-}}` belongs to the delimiter.
                (Kind::Space, length)
            }
            '|' => (Kind::Pipe, 1),
            ',' => (Kind::Comma, 1),
            '(' => {
                parens += 1;
                (Kind::LeftParen, 1)
            }
            ')' => {
                parens = parens
                    .checked_sub(1)
                    .ok_or((at, "unexpected right paren".to_owned()))?;
                (Kind::RightParen, 1)
            }
            '=' => (Kind::Assign, 1),
            ':' if rest.starts_with(":=") => (Kind::Declare, 2),
            ':' => return Err((at, "expected :=".into())),
            '"' => quoted(rest).ok_or((at, "unterminated quoted string".to_owned()))?,
            '`' => {
                let end = rest[1..]
                    .find('`')
                    .ok_or((at, "unterminated raw quoted string".to_owned()))?;
                (Kind::Quoted(rest[1..=end].to_owned()), end + 2)
            }
            '\'' => character(rest).ok_or((at, "unterminated character constant".to_owned()))?,
            '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => field(rest),
            '$' => {
                let name = identifier(&rest[1..]);
                (Kind::Variable(format!("${name}")), 1 + name.len())
            }
            '+' | '-' | '.' | '0'..='9' => number(rest).map_err(|bad| {
                (
                    at,
                    format!("bad number syntax: {}", crate::go::strconv::quote(bad)),
                )
            })?,
            c if c == '_' || c.is_alphanumeric() => {
                let word = identifier(rest);
                (Kind::Word(word.to_owned()), word.len())
            }
            c => return Err((at, format!("unexpected {} in action", unicode_name(c)))),
        };
        tokens.push(Token { at, kind });
        at += length;
    }
}

fn unicode_name(c: char) -> String {
    format!("unrecognized character: U+{:04X} '{c}'", c as u32)
}

fn closing(rest: &str) -> Option<(usize, bool)> {
    if rest.starts_with("}}") {
        return Some((2, false));
    }
    let trimmed = rest.trim_start_matches(SPACES);
    (trimmed.len() < rest.len() && trimmed.starts_with("-}}"))
        .then(|| (rest.len() - trimmed.len() + 3, true))
}

fn identifier(rest: &str) -> &str {
    let end = rest
        .find(|c: char| !(c == '_' || c.is_alphanumeric()))
        .unwrap_or(rest.len());
    &rest[..end]
}

fn field(rest: &str) -> (Kind, usize) {
    let name = identifier(&rest[1..]);
    if name.is_empty() {
        (Kind::Dot, 1)
    } else {
        (Kind::Field(name.to_owned()), 1 + name.len())
    }
}

fn number(rest: &str) -> Result<(Kind, usize), &str> {
    let end = rest
        .char_indices()
        .find(|&(index, c)| {
            let sign = matches!(c, '+' | '-')
                && (index == 0 || matches!(rest.as_bytes()[index - 1], b'e' | b'E'));
            !(sign || c.is_alphanumeric() || c == '.' || c == '_')
        })
        .map_or(rest.len(), |(index, _)| index);
    let text = &rest[..end];
    let plain = text.replace('_', "");
    let valid = crate::go::strconv::parse_int(&plain).is_ok()
        || crate::go::strconv::parse_float(&plain).is_ok();
    if valid {
        Ok((Kind::Number(plain), end))
    } else {
        Err(text)
    }
}

fn quoted(rest: &str) -> Option<(Kind, usize)> {
    let mut out = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Some((Kind::Quoted(out), index + 1)),
            '\n' => return None,
            '\\' => out.push(escape(&mut chars)?),
            c => out.push(c),
        }
    }
    None
}

fn character(rest: &str) -> Option<(Kind, usize)> {
    let mut chars = rest.char_indices().skip(1);
    let value = match chars.next()?.1 {
        '\\' => escape(&mut chars)?,
        c => c,
    };
    let (index, close) = chars.next()?;
    (close == '\'').then_some((Kind::Char(value), index + 1))
}

/// The character that a backslash sequence stands for.
fn escape(chars: &mut impl Iterator<Item = (usize, char)>) -> Option<char> {
    let digits = match chars.next()?.1 {
        'a' => return Some('\x07'),
        'b' => return Some('\x08'),
        'f' => return Some('\x0c'),
        'n' => return Some('\n'),
        'r' => return Some('\r'),
        't' => return Some('\t'),
        'v' => return Some('\x0b'),
        c @ ('\\' | '\'' | '"') => return Some(c),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => return None,
    };
    let mut code = 0u32;
    for _ in 0..digits {
        code = code
            .checked_mul(16)?
            .checked_add(chars.next()?.1.to_digit(16)?)?;
    }
    char::from_u32(code)
}
