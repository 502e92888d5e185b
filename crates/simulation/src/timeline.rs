//! The log of a run with simulated times and the node that speaks, for people who look for what a seed found.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Context as Spans, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::clock::Now;

/// Writes the log of this process to a file, or drops it.
pub fn start(path: Option<&Path>, filter: &str, now: Arc<Now>) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let file = File::create(path).with_context(|| format!("timeline {}", path.display()))?;
    let lines = Lines { file: Mutex::new(BufWriter::new(file)), now };
    let subscriber = tracing_subscriber::registry().with(EnvFilter::try_new(filter)?).with(lines);
    Ok(tracing::subscriber::set_global_default(subscriber)?)
}

struct Lines {
    file: Mutex<BufWriter<File>>,
    now: Arc<Now>,
}

/// The node that a span of turmoil stands for.
struct Node(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, spans: Spans<'_, S>) {
        let mut words = Words::default();
        attributes.record(&mut words);
        if let (Some(span), Some(name)) = (spans.span(id), words.name) {
            span.extensions_mut().insert(Node(name));
        }
    }

    fn on_event(&self, event: &Event<'_>, spans: Spans<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        let node = spans
            .event_scope(event)
            .into_iter()
            .flatten()
            .find_map(|span| span.extensions().get::<Node>().map(|node| node.0.clone()));
        let node = node.unwrap_or_else(|| "-".to_owned());
        let seconds = self.now.elapsed().as_secs_f64();
        let Ok(mut file) = self.file.lock() else { return };
        let (level, target) = (event.metadata().level(), event.metadata().target());
        // A timeline that cannot be written is no reason to end the run.
        let _ =
            writeln!(file, "{seconds:10.4} {node:<10} {level:<5} {target}: {}", words.text).and_then(|()| file.flush());
    }
}

/// The fields of an event on one line.
#[derive(Default)]
struct Words {
    text: String,
    name: Option<String>,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write as _;
        if field.name() == "name" {
            self.name = Some(format!("{value:?}").trim_matches('"').to_owned());
        }
        let written = match field.name() {
            "message" => write!(self.text, "{value:?} "),
            name => write!(self.text, "{name}={value:?} "),
        };
        debug_assert!(written.is_ok(), "a string takes everything");
    }
}
