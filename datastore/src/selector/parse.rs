//! The parser: recursive descent straight over the text, one function a rule of the grammar.

use super::{MAX_DEPTH, Node, SelectorError, Test};

/// Parses a whole selector.
pub(super) fn parse(text: &str) -> Result<Node, SelectorError> {
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
    };
    parser.skip_space();
    if parser.rest().is_empty() {
        return Ok(Node::All);
    }
    let node = parser.or()?;
    if parser.rest().is_empty() {
        Ok(node)
    } else {
        Err(parser.error("&&, || or the end"))
    }
}

/// What may start an operand, for messages.
const OPERAND: &str = "a label, has(label), all(), global(), ! or (";
/// What may follow a label, for messages.
const OPERATOR: &str = "==, !=, in, not in, contains, starts with or ends with";

struct Parser<'a> {
    text: &'a str,
    /// Byte offset of what comes next; never inside a character, and never at white space between rules.
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn or(&mut self) -> Result<Node, SelectorError> {
        let mut nodes = vec![self.and()?];
        while self.eat("||") {
            nodes.push(self.and()?);
        }
        Ok(flat(nodes, Node::Or))
    }

    fn and(&mut self) -> Result<Node, SelectorError> {
        let mut nodes = vec![self.operand()?];
        while self.eat("&&") {
            nodes.push(self.operand()?);
        }
        Ok(flat(nodes, Node::And))
    }

    fn operand(&mut self) -> Result<Node, SelectorError> {
        if self.depth == MAX_DEPTH {
            return Err(self.error("fewer than 64 nested parentheses and negations"));
        }
        self.depth += 1;
        let node = if self.eat("!") {
            Node::Not(Box::new(self.operand()?))
        } else if self.eat("(") {
            let node = self.or()?;
            self.expect(")", "&&, || or )")?;
            node
        } else {
            self.term()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn term(&mut self) -> Result<Node, SelectorError> {
        let label = self.label(OPERAND)?;
        match label.as_str() {
            "all" if self.eat("(") => {
                self.expect(")", ") after all(")?;
                Ok(Node::All)
            }
            "global" if self.eat("(") => {
                self.expect(")", ") after global(")?;
                Ok(Node::Global)
            }
            "has" if self.eat("(") => {
                let label = self.label("a label")?;
                self.expect(")", ") after the label")?;
                Ok(Node::Has(label))
            }
            _ => Ok(Node::Label(label, self.test()?)),
        }
    }

    fn test(&mut self) -> Result<Test, SelectorError> {
        if self.eat("==") {
            return self.string().map(Test::Equal);
        }
        if self.eat("!=") {
            return self.string().map(Test::NotEqual);
        }
        let before = self.at;
        match self.label(OPERATOR)?.as_str() {
            "in" => self.set().map(Test::In),
            "not" if self.eat_word("in") => self.set().map(Test::NotIn),
            "contains" => self.string().map(Test::Contains),
            "starts" if self.eat_word("with") => self.string().map(Test::StartsWith),
            "ends" if self.eat_word("with") => self.string().map(Test::EndsWith),
            _ => {
                self.at = before;
                Err(self.error(OPERATOR))
            }
        }
    }

    fn set(&mut self) -> Result<Vec<String>, SelectorError> {
        self.expect("{", "{ and a list of quoted strings")?;
        let mut set = Vec::new();
        if self.eat("}") {
            return Ok(set);
        }
        loop {
            set.push(self.string()?);
            if !self.eat(",") {
                self.expect("}", ", or }")?;
                return Ok(set);
            }
        }
    }

    fn string(&mut self) -> Result<String, SelectorError> {
        let expected = "a string in single or double quotes";
        let quote = match self.rest().chars().next() {
            Some(quote @ ('\'' | '"')) => quote,
            _ => return Err(self.error(expected)),
        };
        let body = self.rest().get(1..).unwrap_or_default();
        match body.split_once(quote) {
            Some((string, _)) => {
                self.at += string.len() + 2;
                self.skip_space();
                Ok(string.to_string())
            }
            None => Err(self.error("a closing quote")),
        }
    }

    /// A label name, or a word of the language: they are written with the same characters.
    fn label(&mut self, expected: &'static str) -> Result<String, SelectorError> {
        let rest = self.rest();
        let end = rest.find(|c| !is_label_char(c)).unwrap_or(rest.len());
        let Some(label) = rest.get(..end).filter(|label| !label.is_empty()) else {
            return Err(self.error(expected));
        };
        self.at += end;
        self.skip_space();
        Ok(label.to_string())
    }

    fn expect(&mut self, token: &str, expected: &'static str) -> Result<(), SelectorError> {
        if self.eat(token) {
            Ok(())
        } else {
            Err(self.error(expected))
        }
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
            self.skip_space();
        }
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let whole = self
            .rest()
            .strip_prefix(word)
            .is_some_and(|after| !after.starts_with(is_label_char));
        whole && self.eat(word)
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error(&self, expected: &'static str) -> SelectorError {
        let before = self.text.get(..self.at).unwrap_or_default();
        let found = match self.rest().chars().next() {
            None => "the end".to_string(),
            Some(_) => format!("{:?}", self.rest().chars().take(16).collect::<String>()),
        };
        SelectorError {
            position: before.chars().count() + 1,
            expected,
            found,
        }
    }
}

fn is_label_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-')
}

/// A chain of one operand is that operand.
fn flat(mut nodes: Vec<Node>, chain: fn(Vec<Node>) -> Node) -> Node {
    match nodes.pop() {
        Some(only) if nodes.is_empty() => only,
        Some(last) => {
            nodes.push(last);
            chain(nodes)
        }
        None => chain(nodes),
    }
}
