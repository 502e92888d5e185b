//! The sample configuration, `deploy/conclave.toml`: every option with its meaning, default and version.

use super::options::{self, Kind, Section, Spec};

/// Lines of explanation stay this short, so that the file reads well in a terminal.
const WIDTH: usize = 100;

/// The text of the sample. Every option is commented out, so the file as it is changes nothing.
pub fn sample() -> String {
    let mut text = String::from(
        "# Conclave configuration. Flags win over variables, variables over this file, this file over defaults.\n\
         # A variable is CONCLAVE_<TABLE>_<OPTION>, for example CONCLAVE_HOST_LISTEN; lists are separated by commas there.\n\
         # Use it with `conclave host --config FILE` and `conclave gateway --config FILE`.\n",
    );
    for section in Section::ALL {
        text.push_str(&format!("\n# {}\n[{}]\n", title(section), section.name()));
        for spec in options::ALL.into_iter().filter(|spec| spec.section == section) {
            text.push('\n');
            describe(spec, &mut text);
        }
    }
    text
}

fn title(section: Section) -> &'static str {
    match section {
        Section::Cluster => "The same on every node of a cluster. Gateways read only the token.",
        Section::Host => "One host: it holds replicas.",
        Section::Gateway => "One gateway: the stateless edge that clients connect to.",
    }
}

fn describe(spec: &Spec, text: &mut String) {
    let default = spec.default.map_or("No default.".to_owned(), |_| format!("Default {}.", literal(spec)));
    let meaning = format!("{} {default} Since {}. Flag --{}.", spec.meaning, spec.since, spec.flag);
    let mut line = String::from("#");
    for word in meaning.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&format!("{line}\n#{} = {}\n", spec.name, literal(spec)));
}

/// The example as TOML writes it.
fn literal(spec: &Spec) -> String {
    match spec.kind {
        Kind::Text => format!("{:?}", spec.example),
        Kind::Integer | Kind::Boolean => spec.example.to_owned(),
        Kind::List => {
            let items: Vec<String> = spec.example.split(',').map(|item| format!("{item:?}")).collect();
            format!("[{}]", items.join(", "))
        }
    }
}
