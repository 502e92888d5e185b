//! Lays what was given in four places over each other, and refuses names that mean nothing.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Source};
use super::options::{self, Kind, Section, Spec};
use super::parse::Rule;

/// A value as text (lists joined by commas) and where it came from.
#[derive(Debug, Clone)]
struct Given {
    text: String,
    source: Source,
}

/// For each option the value that counts.
#[derive(Debug, Default)]
pub struct Layers {
    values: BTreeMap<(Section, &'static str), Given>,
}

impl Layers {
    /// Defaults, then the file, then variables, then flags; the later wins.
    pub fn gather(
        file: Option<&Path>,
        environment: &[(String, String)],
        flags: Vec<(&'static Spec, String)>,
    ) -> Result<Layers, ConfigError> {
        let mut layers = Layers::default();
        for spec in options::ALL {
            if let Some(default) = spec.default {
                layers.set(spec, default.to_owned(), Source::Default);
            }
        }
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), reason: error.to_string() })?;
            layers.add_file(path, &text)?;
        }
        layers.add_environment(environment)?;
        for (spec, text) in flags {
            layers.set(spec, text, Source::Flag { flag: format!("--{}", spec.flag) });
        }
        Ok(layers)
    }

    pub fn required<T>(&self, spec: &'static Spec, parse: fn(&str) -> Result<T, Rule>) -> Result<T, ConfigError> {
        self.optional(spec, parse)?.ok_or_else(|| ConfigError::Missing {
            field: spec.field(),
            remedy: format!("set [{}] {}, {} or --{}", spec.section.name(), spec.name, spec.variable(), spec.flag),
        })
    }

    pub fn optional<T>(
        &self,
        spec: &'static Spec,
        parse: fn(&str) -> Result<T, Rule>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(given) = self.values.get(&(spec.section, spec.name)) else { return Ok(None) };
        let invalid = |rule| invalid(spec, &given.text, given.source.clone(), rule);
        parse(&given.text).map(Some).map_err(invalid)
    }

    fn set(&mut self, spec: &'static Spec, text: String, source: Source) {
        self.values.insert((spec.section, spec.name), Given { text, source });
    }

    fn add_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let line_of = |offset: usize| 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
        let source = |offset| Source::File { path: path.to_owned(), line: line_of(offset) };
        let document = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            line: line_of(error.span().map_or(0, |span| span.start)),
            reason: error.message().to_owned(),
        })?;
        for (table, content) in document.into_inner() {
            let (place, name) = (source(table.span().start), table.into_inner());
            let section = Section::named(&name).ok_or_else(|| unknown_table(&name, place.clone()))?;
            let DeValue::Table(entries) = content.into_inner() else {
                return Err(unknown_table(&name, place));
            };
            for (key, value) in entries {
                let place = source(key.span().start);
                let Some(spec) = options::find(section, key.get_ref()) else {
                    return Err(unknown_key(section, key.get_ref(), place));
                };
                let text = text_of(spec, value.get_ref())
                    .ok_or_else(|| invalid(spec, &text[value.span()], place.clone(), kind_in_words(spec.kind)))?;
                self.set(spec, text, place);
            }
        }
        Ok(())
    }

    fn add_environment(&mut self, environment: &[(String, String)]) -> Result<(), ConfigError> {
        for (variable, value) in environment {
            let named = |section: Section| Some((section, variable.strip_prefix(&section.variable_prefix())?));
            let Some((section, name)) = Section::ALL.into_iter().find_map(named) else { continue };
            let source = Source::Environment { variable: variable.clone() };
            match options::find(section, &name.to_lowercase()) {
                Some(spec) if spec.variable() == *variable => self.set(spec, value.clone(), source),
                _ if is_service_link(name) => {}
                _ => {
                    return Err(ConfigError::UnknownName {
                        name: format!("{}.{}", section.name(), name.to_lowercase()),
                        place: source,
                        nearest: options::nearest(section, name).variable(),
                    });
                }
            }
        }
        Ok(())
    }
}

fn unknown_table(name: &str, place: Source) -> ConfigError {
    let names = Section::ALL.map(Section::name);
    let likeness = |section: &&str| (strsim::jaro_winkler(section, name) * 1_000.0) as u32;
    let nearest = names.into_iter().max_by_key(likeness).unwrap_or_default();
    ConfigError::UnknownName { name: format!("table [{name}]"), place, nearest: format!("[{nearest}]") }
}

fn unknown_key(section: Section, name: &str, place: Source) -> ConfigError {
    let nearest = options::nearest(section, name);
    ConfigError::UnknownName {
        name: format!("{}.{name}", section.name()),
        place,
        nearest: format!("{} in [{}]", nearest.name, nearest.section.name()),
    }
}

/// Says what is wrong with a value, but never repeats a secret.
fn invalid(spec: &Spec, text: &str, place: Source, rule: Rule) -> ConfigError {
    let secret = std::ptr::eq(spec, &options::CLUSTER_TOKEN);
    let value = if secret { "(hidden)".to_owned() } else { format!("{text:?}") };
    ConfigError::InvalidValue { field: spec.field(), value, place, rule }
}

/// The value as text when it is of the option's kind.
fn text_of(spec: &Spec, value: &DeValue<'_>) -> Option<String> {
    match (spec.kind, value) {
        (Kind::Text, DeValue::String(text)) => Some(text.to_string()),
        (Kind::Boolean, DeValue::Boolean(boolean)) => Some(boolean.to_string()),
        (Kind::Integer, DeValue::Integer(integer)) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|number| number.to_string())
        }
        (Kind::List, DeValue::Array(items)) => {
            let texts: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            texts.map(|texts| texts.join(","))
        }
        _ => None,
    }
}

fn kind_in_words(kind: Kind) -> Rule {
    let words = match kind {
        Kind::Text => "a text in quotes",
        Kind::Integer => "a whole number without quotes",
        Kind::Boolean => "true or false without quotes",
        Kind::List => "a list of texts, such as [\"10.0.0.1:7100\"]",
    };
    words.to_owned()
}

/// Kubernetes gives every container variables for each service of the namespace, so a service called `conclave-host`
/// makes `CONCLAVE_HOST_SERVICE_HOST` and its kin. They are nobody's mistake.
fn is_service_link(name: &str) -> bool {
    let after_port = |rest: &str| rest.is_empty() || rest.starts_with('_');
    name == "SERVICE_HOST"
        || name.strip_prefix("SERVICE_PORT").is_some_and(after_port)
        || name.strip_prefix("PORT").is_some_and(after_port)
}
