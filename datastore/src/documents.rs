//! Manifests that come from outside the datastore: text of any number of YAML (or JSON) documents, lists of objects
//! among them, as `kubectl` takes it.
//!
//! Reading ([`Document::read_all`]) finds out what each document is about; [`Document::check`] applies all rules of
//! its kind. Errors bear the line within the whole text. What this module does not do: look at what is stored.

use serde_json::Value;

use crate::{
    FieldError, KindInfo,
    file::{line_of, to_yaml},
    find_kind, kinds,
    merge::{keep_unknown, unknown_fields},
    object::{ObjectName, check_kind, metadata_of},
    resource::yaml_error,
    types::CALICO_GROUP,
};

/// An object in a text.
#[derive(Debug, Clone)]
pub struct Document {
    /// Which document of the text it is (in), from 1.
    pub number: usize,
    /// Its kind.
    pub kind: &'static KindInfo,
    /// `name`, or `namespace/name`.
    pub name: String,
    /// What it says, in JSON.
    pub raw: Value,
    place: Place,
}

/// A document that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentError {
    /// Which document of the text it is (in), from 1.
    pub number: usize,
    /// Its kind and name as far as they are known: `IPPool "a"`.
    pub about: String,
    /// What is wrong, with the line within the text.
    pub error: FieldError,
}

/// Where an object stands in its text.
#[derive(Debug, Clone)]
struct Place {
    /// The document's text.
    text: String,
    /// Lines before it.
    offset: usize,
    /// For an item of a list: its path.
    item: Option<String>,
}

impl Place {
    /// Makes an error's line and field those of the whole text.
    fn locate(&self, mut error: FieldError) -> FieldError {
        let line = match &self.item {
            None => error.line.or_else(|| line_of(&self.text, &error.field)),
            Some(item) => {
                let path = if error.field.is_empty() {
                    item.clone()
                } else {
                    format!("{item}.{}", error.field)
                };
                let line = line_of(&self.text, &path);
                error.field = path;
                line
            }
        };
        // The first line is better than none.
        error.line = Some(line.unwrap_or(1) + self.offset);
        error
    }
}

impl Document {
    /// Reads all objects of a text, in order; documents without content are passed over.
    pub fn read_all(text: &str) -> Vec<Result<Document, DocumentError>> {
        let mut documents = Vec::new();
        for (index, (offset, text)) in split(text).into_iter().enumerate() {
            let place = Place {
                text,
                offset,
                item: None,
            };
            read(index + 1, place, &mut documents);
        }
        documents
    }

    /// Applies the rules of the kind; gives what the type knows of the object.
    ///
    /// # Errors
    /// The first rule that is broken, with the line within the text.
    pub fn check(&self) -> Result<Value, FieldError> {
        let own;
        let text = match self.place.item {
            None => &self.place.text,
            Some(_) => {
                own = to_yaml(&self.raw);
                &own
            }
        };
        (self.kind.parse_yaml)(text).map_err(|error| self.place.locate(error))
    }

    /// What is to be stored: what the type knows, and every field beyond it.
    ///
    /// # Errors
    /// Those of [`Document::check`].
    pub fn to_store(&self) -> Result<Value, FieldError> {
        let known = self.check()?;
        let mut object = known.clone();
        keep_unknown(&mut object, &self.raw, &known);
        Ok(object)
    }

    /// An error about this object, with its line.
    pub fn locate(&self, error: FieldError) -> FieldError {
        self.place.locate(error)
    }

    /// Fields of the spec that the type does not know: most often they are misspelt. Kubernetes' own kinds have many
    /// that are no concern of ours.
    pub fn unknown_fields(&self) -> Vec<FieldError> {
        let Some(known) = self.check().ok().filter(|_| self.kind.group == CALICO_GROUP) else {
            return Vec::new();
        };
        let spec = |value: &Value| value.get("spec").cloned().unwrap_or_default();
        let fields = unknown_fields("spec", &spec(&self.raw), &spec(&known));
        let message = format!("no such field in {}: it has no effect", self.kind.kind);
        fields
            .into_iter()
            .map(|field| self.place.locate(FieldError::new(field, message.clone())))
            .collect()
    }
}

/// The documents of a text, each with the number of lines before it. `---` at the start of a line ends a document
/// wherever it is (YAML 1.2, section 9.1.2), so lines are enough.
fn split(text: &str) -> Vec<(usize, String)> {
    let mut documents = Vec::new();
    let (mut start, mut current) = (0, String::new());
    for (number, line) in text.lines().enumerate() {
        let marker = |marker: &str| {
            line.strip_prefix(marker)
                .filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
        };
        if let Some(rest) = marker("---").or_else(|| marker("...")) {
            documents.push((start, std::mem::take(&mut current)));
            start = number;
            current = format!("   {rest}");
        } else {
            current.push_str(line);
        }
        current.push('\n');
    }
    documents.push((start, current));
    let says_nothing = |text: &str| {
        text.lines()
            .map(str::trim)
            .all(|line| line.is_empty() || line.starts_with('#'))
    };
    documents.retain(|(_, text)| !says_nothing(text));
    documents
}

fn read(number: usize, place: Place, documents: &mut Vec<Result<Document, DocumentError>>) {
    let raw = match parse(&place.text) {
        Ok(raw) => raw,
        Err(error) => {
            let error = place.locate(error);
            return documents.push(Err(DocumentError {
                number,
                about: String::new(),
                error,
            }));
        }
    };
    let is_list = raw
        .get("kind")
        .and_then(Value::as_str)
        .is_some_and(|kind| kind.ends_with("List"));
    match raw.get("items").and_then(Value::as_array).filter(|_| is_list) {
        Some(items) => {
            for (index, item) in items.iter().enumerate() {
                let place = Place {
                    item: Some(format!("items[{index}]")),
                    ..place.clone()
                };
                documents.push(identify(number, place, item.clone()));
            }
        }
        None => documents.push(identify(number, place, raw)),
    }
}

fn parse(text: &str) -> Result<Value, FieldError> {
    // YAML's own tree refuses a key given twice, where JSON's takes the last.
    serde_yaml::from_str::<serde_yaml::Value>(text).map_err(|e| yaml_error(&e))?;
    serde_yaml::from_str(text).map_err(|e| yaml_error(&e))
}

/// Which object it is.
fn identify(number: usize, place: Place, raw: Value) -> Result<Document, DocumentError> {
    let word = raw.get("kind").and_then(Value::as_str).unwrap_or_default();
    let about = [word, metadata_of(&raw, "name")];
    let about = match about {
        [kind, ""] => kind.to_string(),
        [kind, name] => format!("{kind} \"{name}\"").trim_start().to_string(),
    };
    match name_of(word, &raw) {
        Ok((kind, name)) => Ok(Document {
            number,
            kind,
            name,
            raw,
            place,
        }),
        Err(error) => Err(DocumentError {
            number,
            about,
            error: place.locate(error),
        }),
    }
}

fn name_of(word: &str, raw: &Value) -> Result<(&'static KindInfo, String), FieldError> {
    if !raw.is_object() {
        let message = "expected a manifest: apiVersion, kind, metadata, …";
        return Err(FieldError::new("", message));
    }
    // In manifests a kind has one name.
    let Some(kind) = find_kind(word).filter(|kind| kind.kind == word) else {
        let known: Vec<_> = kinds().map(|kind| kind.kind).collect();
        let found = match word {
            "" => "missing".to_string(),
            _ => format!("there is no kind \"{word}\" here"),
        };
        let message = format!("{found}: expected one of {}", known.join(", "));
        return Err(FieldError::new("kind", message));
    };
    check_kind(kind, raw)?;
    let name = ObjectName::new(kind, metadata_of(raw, "namespace"), metadata_of(raw, "name"))?;
    Ok((kind, name.full()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "\
# pools
---
apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata:
  name: a
spec:
  cidr: 10.0.0.0/16
--- # nothing
...
---
apiVersion: crd.projectcalico.org/v1
kind: BGPPeer
metadata:
  name: tor
spec:
  peerIP: 10.0.0.1
  asNumber: none
  filter: [a]
";

    #[test]
    fn documents_are_counted_and_errors_have_the_line_of_the_whole_text() {
        let documents: Vec<_> = Document::read_all(TWO)
            .into_iter()
            .map(|document| document.expect("two documents"))
            .collect();
        let names: Vec<_> = documents
            .iter()
            .map(|document| (document.number, document.kind.kind, document.name.as_str()))
            .collect();
        assert_eq!(names, [(1, "IPPool", "a"), (2, "BGPPeer", "tor")]);
        assert!(documents[0].check().is_ok());
        let error = documents[1].check().expect_err("no number");
        assert_eq!(
            (error.field.as_str(), error.line),
            ("spec.asNumber", Some(18)),
            "{error:?}"
        );
    }

    #[test]
    fn what_the_type_does_not_know_is_named_and_stored() {
        let text = TWO.replace("asNumber: none", "asNumber: 65000");
        let documents = Document::read_all(&text);
        let peer = documents[1].as_ref().expect("a peer");
        let unknown = peer.unknown_fields();
        assert_eq!(unknown.len(), 1);
        assert_eq!(
            (unknown[0].field.as_str(), unknown[0].line),
            ("spec.filter", Some(19))
        );
        let stored = peer.to_store().expect("in order");
        assert_eq!(stored["spec"]["filter"], serde_json::json!(["a"]));
        assert_eq!(stored["spec"]["asNumber"], 65000);
    }

    #[test]
    fn a_list_is_its_items() {
        let text = "\
kind: List
apiVersion: v1
items:
- apiVersion: crd.projectcalico.org/v1
  kind: IPPool
  metadata: {name: a}
  spec:
    cidr: 10.0.0.0/16
- apiVersion: crd.projectcalico.org/v1
  kind: IPPool
  metadata: {name: b}
  spec:
    cidr: 10.0.0.0/99
";
        let documents = Document::read_all(text);
        assert_eq!(documents.len(), 2);
        assert!(documents[0].as_ref().expect("a pool").check().is_ok());
        let error = documents[1]
            .as_ref()
            .expect("a pool")
            .check()
            .expect_err("too long");
        assert_eq!(
            (error.field.as_str(), error.line),
            ("items[1].spec.cidr", Some(13))
        );
    }

    #[test]
    fn what_is_no_manifest_of_ours_says_what_would_be() {
        for (text, field, line, says) in [
            ("a: b: c", "", 1, "mapping"),
            ("\n\n- a", "", 1, "expected a manifest"),
            ("\n\nkind: Gateway", "kind", 3, "IPPool"),
            ("kind: ippool", "kind", 1, "IPPool"),
            ("{}", "kind", 1, "missing"),
            (
                "apiVersion: projectcalico.org/v3\nkind: IPPool",
                "apiVersion",
                1,
                "expected crd.projectcalico.org/v1",
            ),
            (
                "apiVersion: crd.projectcalico.org/v1\nkind: IPPool\nmetadata:\n  name: A",
                "metadata.name",
                4,
                "RFC 1123",
            ),
        ] {
            let documents = Document::read_all(text);
            let error = documents[0].as_ref().expect_err(text);
            assert_eq!(
                (error.error.field.as_str(), error.error.line),
                (field, Some(line)),
                "{text:?}: {error:?}"
            );
            assert!(error.error.message.contains(says), "{text:?}: {error:?}");
        }
        assert!(Document::read_all("# nothing\n---\n\n").is_empty());
    }
}
