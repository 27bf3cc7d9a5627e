//! The `portcullis` command as people and scripts see it: help, exit codes, messages. The real binary, in folders of its
//! own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, SystemTime},
};

use serde_json::json;
use support::{
    ANN, APP, DOVECOT, Gate, OTHER_APP, POLICY, Setup,
    api::Api,
    token,
    wire::{Imap, xoauth2},
};

fn portcullis(arguments: &[&str]) -> Output {
    run(arguments, "")
}

fn run(arguments: &[&str], input: &str) -> Output {
    let mut command = assert_cmd::Command::cargo_bin("portcullis").unwrap();
    command.args(arguments).env_remove("PORTCULLIS_CONFIG").write_stdin(input).timeout(Duration::from_secs(60));
    command.output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Every file below a folder with its bytes, its folders with none.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                left.push(path.clone());
                all.insert(path, Vec::new());
            } else if entry.file_type().unwrap().is_symlink() {
                all.insert(path.clone(), fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes());
            } else {
                all.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    all
}

const COMMANDS: [&str; 11] =
    ["serve", "demo", "token", "explain", "check", "audit", "policy", "directory", "mailbox", "completions", "man"];

#[test]
fn the_help_of_each_command_teaches() {
    let whole = out(&portcullis(&["--help"]));
    for command in COMMANDS {
        assert!(whole.contains(&format!("\n  {command} ")), "{command} is not in the list: {whole}");
        let help = portcullis(&[command, "--help"]);
        assert_eq!(help.status.code(), Some(0), "{command}");
        let text = out(&help);
        assert!(text.contains("Usage: portcullis "), "{command}: {text}");
        assert!(text.contains("Exit codes: 0 "), "{command} does not tell its exit codes: {text}");
        assert!(text.contains(&format!("    portcullis {command}")), "{command} shows no example: {text}");
    }
    assert_eq!(portcullis(&["--version"]).status.code(), Some(0));
}

#[test]
fn wrong_arguments_are_code_2_and_say_what_is_meant() {
    for (arguments, said) in [
        (&["serv"][..], "unrecognized subcommand 'serv'"),
        (&["serve"], "--config <FILE>"),
        (&["check", "--config"], "a value is required"),
        (&["explain", "--config", "x", "--service", "imap"], "--user <ADDRESS>|--token <->"),
        (&["explain", "--config", "x", "--service", "smtp", "--user", "a@b.c", "--app", "x"], "imap, pop"),
        (&["token", "--config", "x", "--user", "a@b.c", "--app", "x", "--ttl", "soon"], "--ttl"),
        (&["demo", "--port-base", "65500"], "is not in 0..=65440"),
        (&["completions", "tcsh"], "bash"),
        (&["audit", "--config", "x", "--limit", "0"], "--limit"),
        (
            &["check", "--config", "/nowhere/portcullis.toml"],
            "/nowhere/portcullis.toml: the config file cannot be read",
        ),
    ] {
        let output = portcullis(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(err(&output).contains(said), "{arguments:?}: {}", err(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = portcullis(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        for command in COMMANDS {
            assert!(out(&output).contains(command), "{shell} does not complete {command}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man/man1");
    let output = portcullis(&["man", "--dir", pages.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let main = fs::read_to_string(pages.join("portcullis.1")).unwrap();
    assert_eq!(out(&portcullis(&["man"])), main);
    for command in COMMANDS {
        let page = fs::read_to_string(pages.join(format!("portcullis-{command}.1"))).unwrap();
        assert!(page.contains(".SH NAME") && page.contains("Exit codes"), "{command}: {page}");
    }
    let output = portcullis(&["man", "--dir", "/dev/null/man"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("/dev/null/man: cannot make the folder"), "{}", err(&output));
}

/// A gate that has run once and stopped: its folder and config are in order.
fn stopped() -> Gate {
    let mut gate = Gate::start();
    gate.signal("TERM");
    assert_eq!(gate.wait(Duration::from_secs(15)).code(), Some(0));
    gate
}

fn check(gate: &Gate) -> Output {
    portcullis(&["check", "--config", gate.config().to_str().unwrap()])
}

#[test]
fn check_says_that_all_is_well_and_where_everything_is() {
    let gate = stopped();
    let before = tree(gate.dir());
    let output = check(&gate);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let (text, dir) = (out(&output), gate.dir().display().to_string());
    for line in [
        format!("{dir}/portcullis.toml: config is in order\n"),
        format!("data_dir = {dir}/data\n"),
        format!("issuer.jwks_file = {dir}/jwks.json\n"),
        format!("{dir}/policy.toml: policy is in order\n"),
        format!("{dir}/data/portcullis.db: database is in order\n"),
    ] {
        assert!(text.contains(&line), "{line}: {text}");
    }
    assert!(tree(gate.dir()) == before, "check changed something");

    // Beside a running gateway too, and before the first start.
    let running = Gate::start();
    assert_eq!(check(&running).status.code(), Some(0), "{}", err(&check(&running)));
    let _session = running.imap(ANN, APP);
    fs::remove_dir_all(gate.dir().join("data")).unwrap();
    let output = check(&gate);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(out(&output).contains("no database yet; the first start makes it"), "{}", out(&output));
    assert!(!gate.dir().join("data").exists(), "check made the folder");
}

#[test]
fn check_warns_of_certificates_that_clients_will_refuse() {
    let gate = stopped();
    let config = fs::read_to_string(gate.config()).unwrap();
    fs::write(gate.config(), config.replace("hostname = \"localhost\"", "hostname = \"mail.example.com\""))
        .unwrap();
    let output = check(&gate);
    assert_eq!(output.status.code(), Some(0));
    assert!(out(&output).contains("warning: no certificate names the host mail.example.com"), "{}", out(&output));

    let key = rcgen::KeyPair::generate().unwrap();
    let mut old = rcgen::CertificateParams::new(vec!["mail.example.com".to_owned()]).unwrap();
    old.not_before = rcgen::date_time_ymd(2020, 1, 1);
    old.not_after = rcgen::date_time_ymd(2021, 1, 1);
    fs::write(gate.dir().join("server.pem"), old.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(gate.dir().join("server.key"), key.serialize_pem()).unwrap();
    let output = check(&gate);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        out(&output).contains("server.pem: the certificate expired at 2021-01-01T00:00:00Z"),
        "{}",
        out(&output)
    );
}

/// One thing that is broken, and what must be said of it.
struct Broken {
    name: &'static str,
    /// Breaks it, in the folder of a gate that has run.
    how: fn(&Path),
    /// File, place, cause and remedy.
    said: &'static [&'static str],
}

fn edit(dir: &Path, file: &str, from: &str, to: &str) {
    let path = dir.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from:?}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// Runs SQL on a gate's database.
fn sql(dir: &Path, statement: &str) {
    use sqlx::{AnyConnection, Connection};
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}", dir.join("data/portcullis.db").display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = AnyConnection::connect(&url).await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

const BROKEN: &[Broken] = &[
    Broken {
        name: "config is no TOML",
        how: |dir| edit(dir, "portcullis.toml", "[database]", "[database"),
        said: &["portcullis.toml:", "[database", "this is no TOML; see https://toml.io"],
    },
    Broken {
        name: "unknown key",
        how: |dir| edit(dir, "portcullis.toml", "hostname", "hostnam"),
        said: &["portcullis.toml:1:1: there is no key hostnam: did you mean hostname?", "1 | hostnam = "],
    },
    Broken {
        name: "wrong type",
        how: |dir| edit(dir, "portcullis.toml", "failed_login_delay_s = 0", "failed_login_delay_s = \"no\""),
        said: &["portcullis.toml:", "limits.failed_login_delay_s is of type string: write a whole number"],
    },
    Broken {
        name: "out of range",
        how: |dir| edit(dir, "portcullis.toml", "failed_login_delay_s = 0", "login_s = 0"),
        said: &["portcullis.toml:", "limits.login_s is out of range: write a number from 1 to 3600"],
    },
    Broken {
        name: "two mistakes at once",
        how: |dir| {
            edit(dir, "portcullis.toml", "hostname = \"localhost\"", "hostname = 7");
            edit(dir, "portcullis.toml", "audience", "audienc");
        },
        said: &["portcullis.toml:1:12: hostname is of type", "there is no key issuer.audienc"],
    },
    Broken {
        name: "certificate missing",
        how: |dir| fs::remove_file(dir.join("server.pem")).unwrap(),
        said: &["server.pem: tls.certificate cannot be read (No such file", "put a PEM file there"],
    },
    Broken {
        name: "certificate is none",
        how: |dir| fs::write(dir.join("server.pem"), "-----BEGIN").unwrap(),
        said: &["server.pem: ", "certificate"],
    },
    Broken {
        name: "key of another certificate",
        how: |dir| fs::write(dir.join("server.key"), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap(),
        said: &["server.key: the private key does not belong to the certificate: "],
    },
    Broken {
        name: "key set missing",
        how: |dir| fs::remove_file(dir.join("jwks.json")).unwrap(),
        said: &["issuer https://id.example.com: cannot read its keys: ", "jwks.json", "put its JWK Set there"],
    },
    Broken {
        name: "key set garbage",
        how: |dir| fs::write(dir.join("jwks.json"), "<html>").unwrap(),
        said: &["jwks.json: the key set is not well-formed JSON; it has to be a JWK Set (RFC 7517)"],
    },
    Broken {
        name: "key set without a usable key",
        how: |dir| {
            let weak = json!({"keys": [{"kty": "oct", "k": "AAAA", "kid": "shared"}]}).to_string();
            fs::write(dir.join("jwks.json"), weak).unwrap();
        },
        said: &[
            "jwks.json: the key set has no usable key",
            "shared",
            "it has to be a JWK Set (RFC 7517) with a public signature key",
        ],
    },
    Broken {
        name: "key set too large",
        how: |dir| fs::write(dir.join("jwks.json"), " ".repeat(300 * 1024)).unwrap(),
        said: &["jwks.json", "it is larger than 262144 bytes (jwks.reply_bytes)"],
    },
    Broken {
        name: "upstream without what it needs",
        how: |dir| {
            let more = "[[upstream]]\nname = \"a\"\nimap = [\"a:993\"]\nca_file = \"none.pem\"\nlogin = { by = \"token\" }\n\
                        [[upstream]]\nname = \"b\"\nimap = [\"b:993\"]\nlogin = { by = \"master\", user = \"gate\", \
                        secret_file = \"none\" }\n[policy]";
            edit(dir, "portcullis.toml", "[policy]", more);
        },
        said: &[
            "none.pem: upstream.ca_file cannot be read (No such file",
            "none: the secret of upstream b cannot be read (No such file",
        ],
    },
    Broken {
        name: "policy is no TOML",
        how: |dir| edit(dir, "policy.toml", "imap = \"any\"", "imap = any"),
        said: &["policy.toml:3:8: "],
    },
    Broken {
        name: "policy with a mistake",
        how: |dir| edit(dir, "policy.toml", "unit = \"/Off\"", "unit = \"/Of\""),
        said: &["policy.toml:18:8: ", "/Of", "18 | unit = \"/Of\"", "^^^^"],
    },
    Broken {
        name: "policy missing",
        how: |dir| fs::remove_file(dir.join("policy.toml")).unwrap(),
        said: &["policy.toml: cannot read the policy file; correct policy.file in the config"],
    },
    Broken {
        name: "database is none",
        how: |dir| fs::write(dir.join("data/portcullis.db"), "not a database at all, though long enough").unwrap(),
        said: &["portcullis.db is not a database: move it away, or point database.url elsewhere"],
    },
    Broken {
        name: "database is a folder",
        how: |dir| {
            fs::remove_file(dir.join("data/portcullis.db")).unwrap();
            fs::create_dir(dir.join("data/portcullis.db")).unwrap();
        },
        said: &["portcullis.db is not a database: move it away"],
    },
    Broken {
        name: "database of another program",
        how: |dir| {
            fs::write(dir.join("data/portcullis.db"), "").unwrap();
            sql(dir, "CREATE TABLE recipes (name TEXT)");
        },
        said: &["portcullis.db is a database of another program", "point database.url elsewhere"],
    },
    Broken {
        name: "database of a newer version",
        how: |dir| {
            sql(
                dir,
                "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time) \
                 VALUES (99, 'later', '2030-01-01', TRUE, x'00', 0)",
            );
        },
        said: &[
            "portcullis.db was written by a newer Portcullis (schema 99): install that version or restore a backup",
        ],
    },
    Broken {
        name: "database url",
        how: |dir| edit(dir, "portcullis.toml", "sqlite:portcullis.db", "sqlite::memory:"),
        said: &["database.url keeps nothing: a database in memory: write \"sqlite:portcullis.db\""],
    },
    Broken {
        name: "data_dir is a file",
        how: |dir| {
            fs::remove_dir_all(dir.join("data")).unwrap();
            fs::write(dir.join("data"), "").unwrap();
        },
        said: &["/data", "mail and database cannot be kept there", "correct data_dir"],
    },
    Broken {
        name: "mail folder is a file",
        how: |dir| {
            fs::remove_dir_all(dir.join("data/mail")).unwrap();
            fs::write(dir.join("data/mail"), "").unwrap();
        },
        said: &["/data/mail: mail and database cannot be kept there"],
    },
    Broken {
        name: "mail folder is a dead link",
        how: |dir| {
            fs::remove_dir_all(dir.join("data/mail")).unwrap();
            std::os::unix::fs::symlink("/nowhere/mail", dir.join("data/mail")).unwrap();
        },
        said: &["/data/mail: mail and database cannot be kept there"],
    },
];

#[test]
fn what_is_wrong_is_told_with_file_place_cause_and_remedy_by_check_and_serve_alike_and_nothing_changes() {
    let mut wrong = Vec::new();
    for Broken { name, how, said } in BROKEN {
        let gate = stopped();
        how(gate.dir());
        let before = tree(gate.dir());
        for command in ["check", "serve"] {
            let output = portcullis(&[command, "--config", gate.config().to_str().unwrap()]);
            let text = err(&output);
            let mut problem = |what: String| wrong.push(format!("{name}: {command} {what}: {text}"));
            if output.status.code() != Some(2) || out(&output).contains("ready") {
                problem(format!("ends with {}", output.status));
            }
            for words in said.iter().filter(|words| !text.contains(**words)) {
                problem(format!("does not say {words:?}"));
            }
            let after = tree(gate.dir());
            let differs = |path: &&PathBuf| before.get(*path) != after.get(*path);
            let changed: Vec<&PathBuf> = before.keys().chain(after.keys()).filter(differs).collect();
            if !changed.is_empty() {
                problem(format!("changed {changed:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_place_that_cannot_be_written_is_told() {
    if rustix::process::geteuid().is_root() {
        // Root may write anywhere.
        return;
    }
    let gate = stopped();
    let data = gate.dir().join("data");
    for (path, mode) in [(data.join("portcullis.db"), 0o400), (data.join("mail"), 0o500), (data, 0o500)] {
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let output = check(&gate);
        fs::set_permissions(&path, before).unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", path.display());
        assert!(err(&output).contains(path.to_str().unwrap()), "{}", err(&output));
    }
}

#[test]
fn a_first_start_with_a_wrong_policy_makes_nothing() {
    let gate = stopped();
    fs::remove_dir_all(gate.dir().join("data")).unwrap();
    edit(gate.dir(), "policy.toml", "[unit.\"/\"]", "[unit.\"no slash\"]");
    let output = portcullis(&["serve", "--config", gate.config().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("policy.toml:2:"), "{}", err(&output));
    assert!(!gate.dir().join("data").exists(), "a wrong policy made the data folder");
}

#[test]
fn a_wrong_policy_saved_while_running_changes_nothing() {
    let gate = Gate::start();
    let mut session = gate.imap(ANN, APP);
    gate.set_policy(&POLICY.replace("imap = \"any\"", "imap = \"sometimes\""));
    gate.wait_for_log("policy not applied, nothing changed: ");
    let log = gate.log();
    assert!(log.contains("policy.toml:3:8: ") && log.contains("\"off\""), "{log}");
    session.ok("NOOP");
    gate.imap(ANN, APP).ok("LOGOUT");
    // The next one that is right is applied.
    gate.set_policy(&POLICY.replace("imap = \"any\"", "imap = \"off\""));
    assert!(session.bye().0.starts_with("[CONTACTADMIN] IMAP access is disabled for your domain."));
}

#[test]
fn mail_at_an_upstream_that_the_config_does_not_have_is_told_before_anybody_is_cut_off() {
    let gate = stopped();
    let config = fs::read_to_string(gate.config()).unwrap();
    let serve = || {
        let output = portcullis(&["serve", "--config", gate.config().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
        err(&output)
    };
    fs::write(gate.config(), format!("{config}{DOVECOT}")).unwrap();
    edit(gate.dir(), "policy.toml", "[unit.\"/Off\"]", "[unit.\"/Off\"]\nmail = \"dovcot\"");
    edit(gate.dir(), "policy.toml", "unit = \"/Listed\"", "unit = \"/Listed\"\nmail = \"dovecot/mail9\"");
    let output = check(&gate);
    assert_eq!(output.status.code(), Some(2));
    for text in [err(&output), serve()] {
        for said in [
            "policy.toml:7:8: mail = \"dovcot\" is none of [[upstream]] in the config: write \"maildir\" or \"dovecot\", or",
            "policy.toml:23:8: mail = \"dovecot/mail9\": the upstream dovecot has no server mail9 in the config: write \"dovecot\",",
        ] {
            assert!(text.contains(said), "{text}\nexpected {said}");
        }
    }
    let policy = gate.dir().join("policy.toml");
    let apply = portcullis(&[
        "policy",
        "apply",
        "--config",
        gate.config().to_str().unwrap(),
        policy.to_str().unwrap(),
        "--yes",
    ]);
    assert!(err(&apply).contains("policy.toml:7:8: mail = \"dovcot\""), "{}", err(&apply));
    edit(gate.dir(), "policy.toml", "dovcot", "dovecot");
    edit(gate.dir(), "policy.toml", "dovecot/mail9", "dovecot/MAIL2.internal");
    assert_eq!(check(&gate).status.code(), Some(0), "{}", err(&check(&gate)));
}

#[test]
fn an_upstream_that_is_taken_out_while_the_database_names_it_is_warned_of() {
    let mut gate = Gate::with(Setup {
        listen: "imaps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\n".to_owned(),
        more: DOVECOT.to_owned(),
        ..Setup::default()
    });
    let first = Api::first(&gate);
    for unit in ["/Sales", "/Works"] {
        let made =
            first.post("/api/v1/units", &json!({ "path": unit, "set": { "mail": "dovecot/mail1.internal" } }));
        assert!(made.status.is_success(), "{}", made.text);
    }
    assert!(!out(&check(&gate)).contains("dovecot/mail1.internal"), "{}", out(&check(&gate)));
    edit(gate.dir(), "portcullis.toml", "\"mail1.internal:993\", ", "");
    let said = "unit \"/Sales\" and 1 more: mail = \"dovecot/mail1.internal\": the upstream dovecot has no server \
                mail1.internal in the config: write \"dovecot\" or \"dovecot/mail2.internal\"";
    let output = check(&gate);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(out(&output).contains(&format!("warning: {said}")), "{}", out(&output));
    gate.crash_and_restart();
    gate.wait_for_log(said);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let gate = Gate::start();
    let taken = format!("127.0.0.1:{}", gate.imaps);
    let other = stopped();
    edit(other.dir(), "portcullis.toml", "imaps = [\"127.0.0.1:0\"]", &format!("imaps = [\"{taken}\"]"));
    let output = portcullis(&["serve", "--config", other.config().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let text = err(&output);
    assert!(text.contains(&format!("listen.imaps: cannot listen on {taken}; is the port taken")), "{text}");
}

#[test]
fn explain_answers_by_its_exit_code() {
    let gate = Gate::start();
    let config = gate.config();
    let ask = |user: &str, app: &str, more: &[&str]| {
        let mut arguments = vec!["explain", "--config", config.to_str().unwrap(), "--user", user, "--app", app];
        arguments.extend(more);
        portcullis(&arguments)
    };
    for (user, app, service, code, said) in [
        (ANN, APP, "imap", 0, "yes: ann@example.com may read ann@example.com by "),
        (ANN, OTHER_APP, "pop", 0, "yes: "),
        ("olaf@example.com", APP, "imap", 1, "no: "),
        ("lisa@example.com", OTHER_APP, "imap", 1, "to change it: "),
        ("lisa@example.com", APP, "pop", 0, "yes: "),
        ("nobody@example.com", APP, "imap", 1, "no: "),
    ] {
        let output = ask(user, app, &["--service", service]);
        assert_eq!(output.status.code(), Some(code), "{user} {app} {service}: {}{}", out(&output), err(&output));
        assert!(out(&output).contains(said), "{user} {app} {service}: {}", out(&output));
    }
    assert_eq!(ask(ANN, APP, &["--service", "imap", "--mailbox", "lisa@example.com"]).status.code(), Some(1));
    let output = ask("no address", APP, &["--service", "imap"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("--user"), "{}", err(&output));

    // Before the first start the policy file answers; without one nobody can tell, and nothing is made by asking.
    let fresh = stopped();
    fs::remove_dir_all(fresh.dir().join("data")).unwrap();
    let config = fresh.config();
    let config = config.to_str().unwrap();
    let explain = ["explain", "--user", ANN, "--app", APP, "--service", "imap", "--config", config];
    let output = portcullis(&explain);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(err(&output).contains("there is no database yet; this is what "), "{}", err(&output));
    edit(fresh.dir(), "portcullis.toml", "\nfile = ", "\n# file = ");
    for arguments in [&explain[..], &["audit", "--config", config]] {
        let output = portcullis(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(err(&output).contains("there is no database yet, so "), "{}", err(&output));
        assert!(!fresh.dir().join("data").exists(), "{arguments:?} made a database");
    }
}

#[test]
fn explain_tells_which_check_a_token_fails() {
    let gate = Gate::start();
    let config = gate.config();
    let ask = |token: &str, service: &str| {
        run(
            &["explain", "--config", config.to_str().unwrap(), "--service", service, "--token", "-"],
            &format!("{token}\n"),
        )
    };
    let claims = |change: fn(&mut serde_json::Value)| {
        let mut claims = token::claims(ANN, APP, 3600);
        change(&mut claims);
        gate.key.sign(&claims)
    };
    let stranger = token::SigningKey::new("unheard-of");
    for (name, token, code, said) in [
        ("good", gate.token(ANN, APP), 0, "yes: ann@example.com may read ann@example.com by "),
        ("good, but off", gate.token("olaf@example.com", APP), 1, "to change it: "),
        ("expired", gate.token_for(ANN, APP, -3600), 1, "no: the token is not believed: expired "),
        ("wrong audience", claims(|claims| claims["aud"] = json!("elsewhere")), 1, "elsewhere"),
        (
            "other issuer",
            claims(|claims| claims["iss"] = json!("https://other.example.com")),
            1,
            "other.example.com",
        ),
        (
            "scope missing",
            claims(|claims| claims["scope"] = json!("openid")),
            1,
            "no: the token's scope does not cover",
        ),
        ("unknown key", stranger.sign(&token::claims(ANN, APP, 3600)), 1, "unheard-of"),
        ("forged", format!("{}AAAA", gate.token(ANN, APP)), 1, "no: the token is not believed: "),
        ("no token", "hello".to_owned(), 1, "no: the token is not believed: "),
    ] {
        let output = ask(&token, "imap");
        let text = out(&output);
        assert_eq!(output.status.code(), Some(code), "{name}: {text}{}", err(&output));
        assert!(text.contains(said), "{name}: {text}");
        assert!(!text.contains(&token) || token.len() < 10, "{name}: the token is repeated");
    }
    let output = ask("", "imap");
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("no token on standard input"), "{}", err(&output));
}

#[test]
fn audit_finds_rows_by_user_app_cause_and_reference() {
    let gate = Gate::start();
    gate.imap(ANN, APP).ok("LOGOUT");
    gate.imap(ANN, OTHER_APP).ok("LOGOUT");
    let mut imap = Imap::connect(&gate);
    let blob = xoauth2("olaf@example.com", &gate.token("olaf@example.com", APP));
    let refused = imap.command(&format!("AUTHENTICATE XOAUTH2 {blob}")).status;
    let reference = refused.rsplit_once("(ref ").unwrap().1.trim_end_matches(')').to_owned();
    imap.command("LOGIN ann@example.com secret");
    gate.audit_with(&[], 1, |row| row["reason"] == "legacy_password");
    gate.audit_with(&["--user", ANN], 2, |row| row["event"] == "session.ended");

    let count =
        |arguments: &[&str]| gate.audit(arguments).iter().filter(|row| row["event"] != "session.ended").count();
    assert_eq!(count(&["--user", ANN]), 3, "two logins and a password: {:?}", gate.audit(&["--user", ANN]));
    assert_eq!(count(&["--user", ANN, "--app", OTHER_APP]), 1);
    assert_eq!(count(&["--app", APP]), 2);
    assert_eq!(count(&["--cause", "policy_service_off"]), 1);
    assert_eq!(count(&["--cause", "legacy_password"]), 1);
    let found = gate.audit(&["--reference", &reference]);
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["user"], &found[0]["unit"]), (&json!("olaf@example.com"), &json!("/Off")));

    let config = gate.config();
    let config = config.to_str().unwrap();
    let output = portcullis(&["audit", "--config", config, "--reference", &reference.to_lowercase()]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let line = out(&output);
    assert!(line.contains("policy_service_off") && line.contains(&format!("ref {reference}")), "{line}");
    assert!(line.contains("set at ") && line.lines().count() == 1, "{line}");
    let output = portcullis(&["audit", "--config", config, "--user", "nobody@example.com"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("no row of the audit log fits"), "{}", err(&output));
    let output = portcullis(&["audit", "--config", config, "--reference", "hello world"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(gate.audit(&["--limit", "1"]).len(), 1);
}

#[test]
fn audit_verify_names_the_row_that_was_changed_and_export_prints_all_of_them() {
    let gate = Gate::start();
    gate.imap(ANN, APP).ok("LOGOUT");
    gate.audit_with(&["--user", ANN], 1, |row| row["event"] == "session.ended");
    let config = gate.config();
    let config = config.to_str().unwrap();
    let verify = |more: &[&str]| {
        let output = portcullis(&[&["audit", "verify", "--config", config][..], more].concat());
        (output.status.code(), out(&output) + &err(&output))
    };
    let export = |more: &[&str]| {
        let output = portcullis(&[&["audit", "export", "--config", config][..], more].concat());
        let rows: Vec<serde_json::Value> =
            out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (output.status.code(), rows)
    };
    let (code, rows) = export(&[]);
    let numbers: Vec<i64> = rows.iter().map(|row| row["number"].as_i64().unwrap()).collect();
    assert_eq!((code, numbers), (Some(0), (1..=i64::try_from(rows.len()).unwrap()).collect()));
    assert!(rows.iter().all(|row| row["hash"].as_str().unwrap().len() == 64), "{rows:?}");
    let (code, ann) = export(&["--user", ANN]);
    assert_eq!((code, ann.len(), &ann[0]["event"]), (Some(0), 2, &json!("login")));
    assert_eq!(export(&["--user", "nobody@example.com"]), (Some(1), vec![]));

    let (code, text) = verify(&[]);
    let noted = text.lines().find_map(|line| line.strip_prefix("to note elsewhere: ")).unwrap().to_owned();
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(noted, format!("{}:{}", rows.len(), rows.last().unwrap()["hash"].as_str().unwrap()));
    assert_eq!(verify(&["--noted", &noted]).0, Some(0));
    let other = format!("{}:{}", rows.len(), "0".repeat(64));
    assert!(verify(&["--noted", &other]).1.contains(&format!("row {} is not the one that was noted", rows.len())));
    let (code, text) = verify(&["--noted", "soon"]);
    assert!(code == Some(2) && text.contains("a number, a colon and 64 digits"), "{text}");

    sql(gate.dir(), "UPDATE audit SET outcome = 'no' WHERE number = 2");
    sql(gate.dir(), "DELETE FROM audit WHERE number IN (4, 5)");
    let (code, text) = verify(&[]);
    let said = "row 2 is not what was written\nrows 4 to 5 are missing\nthe audit log is not as it was written; ";
    assert!(code == Some(1) && text.starts_with(said), "{text}");
}

#[test]
fn whoever_reads_a_commands_output_may_stop_reading() {
    let gate = Gate::start();
    gate.imap(ANN, APP).ok("LOGOUT");
    gate.audit_with(&["--user", ANN], 2, |_| true);
    let config = gate.config();
    let config = config.to_str().unwrap();
    for (arguments, code) in [
        (&["audit", "--config", config][..], 0),
        (&["audit", "export", "--config", config], 0),
        (&["audit", "verify", "--config", config], 0),
        (&["explain", "--config", config, "--user", ANN, "--app", APP, "--service", "imap"], 0),
        (&["explain", "--config", config, "--user", "nobody@x", "--app", APP, "--service", "imap"], 1),
        (&["check", "--config", config], 0),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"));
        let output = command.args(arguments).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), err(&output)), (Some(code), String::new()), "{arguments:?}");
    }
}

#[test]
fn token_is_made_only_where_the_config_holds_the_key() {
    let gate = stopped();
    let config = gate.config();
    let arguments = ["token", "--config", config.to_str().unwrap(), "--user", ANN, "--app", APP];
    let output = portcullis(&arguments);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("has a private_key_file, so no token can be signed"), "{}", err(&output));

    edit(gate.dir(), "portcullis.toml", "user_claim", "private_key_file = \"issuer.key\"\nuser_claim");
    let output = portcullis(&arguments);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("issuer.key: cannot read the issuer's private key"), "{}", err(&output));
    assert_eq!(check(&gate).status.code(), Some(2));
    fs::write(gate.dir().join("issuer.key"), "rubbish").unwrap();
    let output = check(&gate);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("issuer.key: "), "{}", err(&output));
}

/// A demo that is running; killed when dropped.
struct Demo {
    child: Child,
    told: Vec<String>,
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn demo(dir: &Path, base: u16) -> Result<Demo, Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["demo", "--dir", dir.to_str().unwrap(), "--port-base", &base.to_string()]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut told = Vec::new();
    for line in lines.by_ref() {
        let last = line.starts_with("The API is at ");
        told.push(line);
        if last {
            // Nobody reads on: the rest of its output has to go somewhere.
            let mut rest = child.stderr.take().unwrap();
            std::thread::spawn(move || std::io::copy(&mut rest, &mut std::io::sink()));
            return Ok(Demo { child, told });
        }
    }
    Err(child.wait_with_output().unwrap())
}

/// A base whose ports are free now.
fn free_base() -> u16 {
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos();
    let mut bases = (0..200u32).map(|n| 20_000 + u16::try_from((seed / 1000 + n * 37) % 400).unwrap() * 100);
    let free = |base: &u16| {
        [80, 93, 95].iter().all(|port| std::net::TcpListener::bind(("127.0.0.1", base + port)).is_ok())
    };
    bases.find(free).unwrap()
}

#[test]
fn the_demo_makes_everything_once_and_says_how_to_read_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("the demo's");
    let base = free_base();
    let first = demo(&folder, base).unwrap_or_else(|output| panic!("{}", err(&output)));
    for line in ["ready".to_owned(), format!("listening imaps 127.0.0.1:{}", base + 93)] {
        assert!(first.told.contains(&line), "{line}: {:?}", first.told);
    }
    let paste = first.told.iter().find(|line| line.starts_with("curl ")).unwrap().clone();
    if Command::new("curl").arg("--version").output().is_ok() {
        let pasted = Command::new("sh").args(["-c", &paste]).output().unwrap();
        assert!(out(&pasted).contains("Subject: "), "{paste}: {}{}", out(&pasted), err(&pasted));
    }
    // The ports are taken now.
    let other = dir.path().join("other");
    let refused = demo(&other, base).err().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let text = err(&refused);
    assert!(text.contains(&format!("cannot listen on 127.0.0.1:{}; is the port taken", base + 93)), "{text}");
    drop(first);

    let keep = ["certs/server.pem", "certs/ca.pem", "issuer.key", "jwks.json", "portcullis.toml", "policy.toml"];
    let read = || keep.map(|file| fs::read(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}")));
    let before = read();
    let second = demo(&folder, base).unwrap_or_else(|output| panic!("{}", err(&output)));
    assert!(read() == before, "a second start made something anew");
    assert_eq!(second.told.iter().find(|line| line.starts_with("curl ")), Some(&paste));
    for file in ["issuer.key", "certs/server.key", "certs/ca.key"] {
        if let Ok(meta) = fs::metadata(folder.join(file)) {
            assert_eq!(meta.permissions().mode() & 0o077, 0, "{file} is open to others");
        }
    }
    drop(second);
    // Another base holds although the folder's config names the old one.
    let moved = free_base();
    let third = demo(&folder, moved).unwrap_or_else(|output| panic!("{}", err(&output)));
    assert!(third.told.contains(&format!("listening pop3s 127.0.0.1:{}", moved + 95)), "{:?}", third.told);
}

#[test]
fn the_demo_says_why_a_folder_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = demo(&file, free_base()).err().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        err(&refused).contains(&format!("{}: cannot make the demo there", file.display())),
        "{}",
        err(&refused)
    );
}

#[test]
fn a_setting_of_the_listeners_that_makes_no_sense_is_refused() {
    let gate = Gate::with(Setup::default());
    edit(gate.dir(), "portcullis.toml", "imaps = [\"127.0.0.1:0\"]", "imaps = [\"localhost:993\"]");
    let output = check(&gate);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("write a number for the host"), "{}", err(&output));
}
