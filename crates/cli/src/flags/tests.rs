use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_option_of_a_role_has_its_flag() {
    let command = Cli::command();
    for spec in options::ALL {
        let roles: &[&str] = match spec.section {
            options::Section::Cluster => &["host"],
            options::Section::Host => &["host"],
            options::Section::Gateway => &["gateway"],
        };
        for role in roles {
            let role = command.find_subcommand(role).unwrap();
            let has_flag = role.get_arguments().any(|argument| argument.get_long() == Some(spec.flag));
            assert!(has_flag, "{} has no flag --{} in {}", spec.field(), spec.flag, role.get_name());
        }
    }
}

#[test]
fn every_flag_of_a_role_reaches_its_option() {
    let flags = |role: &str| {
        let command = Cli::command();
        let role = command.find_subcommand(role).unwrap();
        role.get_arguments().filter_map(|flag| flag.get_long()).filter(|flag| *flag != "config").count()
    };
    let line = "conclave host --cluster-token=a --cluster-token-file=a --initial-hosts=a --shards=a --project=a \
                --heartbeat-ms=a --election-min-ms=a --election-max-ms=a --listen=a --advertise=a --data=a --join=a \
                --zone=a --insecure --log=a --compact-after-entries=a --keep-log-entries=a";
    let Command::Host(host) = parse(&line.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap().command else {
        panic!("another command")
    };
    assert_eq!(host.given().len(), flags("host"));

    let line = "conclave gateway --cluster-token=a --cluster-token-file=a --listen=a --hosts=a --insecure=false \
                --reflection --log=a";
    let Command::Gateway(gateway) = parse(&line.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap().command
    else {
        panic!("another command")
    };
    let given = gateway.given();
    assert_eq!(given.len(), flags("gateway"));
    let value = |name: &str| given.iter().find(|(spec, _)| spec.name == name).map(|(_, text)| text.as_str());
    assert_eq!((value("insecure"), value("reflection")), (Some("false"), Some("true")));
}

#[test]
fn the_commands_of_the_readme_are_understood() {
    for line in [
        "conclave rooms create my-room",
        "conclave rooms watch my-room",
        "conclave rooms watch my-room --topic documents --topic queues --after-revision 7 --limit 3 --output json",
        "conclave rooms update my-room --max-messages 1000 --max-message-bytes 1048576 --max-message-age 24h",
        "conclave room messaging post my-room --text hello",
        "conclave room messaging post my-room --type chat --json {} --file a --header a=b --output json",
        "conclave room messaging follow my-room --after-revision 9 --until-live",
        "conclave room messaging follow my-room --count 2",
        "conclave room messaging send my-room --to ann --to bob#phone --text hello",
        "conclave room messaging broadcast my-room --text hello",
        "conclave room messaging listen my-room --as dev#cli --limit 1",
        "conclave room messaging list my-room",
        "conclave room sync list my-room --output json",
        "conclave room sync show my-room notes/a.md",
        "conclave room sync create my-room notes/a.md",
        "conclave room sync push my-room notes/a.md --update-file a --update-file b --no-create",
        "conclave room sync follow my-room notes/a.md --until-live",
        "conclave room sync rename my-room notes/a.md notes/b.md",
        "conclave room sync delete my-room notes/b.md",
        "conclave room participants list my-room",
        "conclave room participants watch my-room --until-live",
        "conclave room participants attach my-room",
        "conclave room participants attach my-room --name dev#2 --role agent --attribute a=b --lease 10s --replace",
        "conclave rooms update my-room --metadata a=b --annotation c=d=e",
        "conclave rooms delete my-room --etag 4",
        "conclave rooms list --output json",
        "conclave dev --hosts 1 --ephemeral",
        "conclave version",
        "conclave token create --hosts 127.0.0.1:1,127.0.0.1:2 --cluster-token sixteen-bytes-ok --name ann --role agent --scope rooms.list",
        "conclave leader --cluster-token sixteen-bytes-ok --room my-room",
    ] {
        assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
    }
}

#[test]
fn nonsense_is_refused_where_it_stands() {
    for line in [
        "conclave rooms create My_Room",
        "conclave rooms watch my-room --topic everything",
        "conclave rooms watch my-room --limit 0",
        "conclave rooms update my-room --max-messages 0",
        "conclave room messaging post my-room",
        "conclave room messaging send my-room --text hello",
        "conclave room sync show my-room a//b",
        "conclave room sync push my-room a",
        "conclave room participants attach my-room --attribute novalue",
        "conclave rooms list --page-size 0",
        "conclave rooms update my-room --metadata novalue",
        "conclave host --shard 4",
        "conclave token create --cluster-token short --name ann",
        "conclave leader --cluster-token sixteen-bytes-ok --cluster-token-file f --room my-room",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

mod queue;
