//! Real peers: Python's clients of SMTP, IMAP and POP3 speak with Postfix and Dovecot on ports that are none of mail's, and `lc-hunt email` listens at the switch between them. What arrived is held
//! against the servers' logs, and against what the client has sent and got.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use lc_tests::daemons::end;
use lc_tests::node::PATIENCE;
use lc_tests::peers::{Peers, certify};
use lc_tests::process::{self, Running, wait_for};
use lc_tests::processor::{self, Told};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::tempdir;

/// The client: see there.
const SCRIPT: &str = include_str!("../peers/mail.py");
const PASSWORD: &str = "s3cret-word";
/// How it may stand in a response to an authentication: by what is before it.
const ENCODED: [&str; 3] = ["czNjcmV0LXdvcmQ", "AHMzY3JldC13b3Jk", "BzM2NyZXQtd29yZA"];
/// Mails that are sent, one of them encrypted.
const MAILS: usize = 9;
/// Commands of IMAP and POP3 that the client says in clear, and how often.
const FETCHING: [(&str, usize); 24] = [
    ("IMAP CAPABILITY", 3),
    ("IMAP LOGIN", 1),
    ("IMAP APPEND", 3),
    ("IMAP SELECT", 1),
    ("IMAP SEARCH", 1),
    ("IMAP FETCH", 3),
    ("IMAP UID FETCH", 1),
    ("IMAP CLOSE", 1),
    ("IMAP LOGOUT", 2),
    ("IMAP AUTHENTICATE", 1),
    ("IMAP NOOP", 1),
    ("IMAP STARTTLS", 1),
    ("POP3 USER", 1),
    ("POP3 PASS", 1),
    ("POP3 STAT", 1),
    ("POP3 LIST", 1),
    ("POP3 UIDL", 1),
    ("POP3 RETR", 3),
    ("POP3 TOP", 1),
    ("POP3 DELE", 1),
    ("POP3 QUIT", 2),
    ("POP3 APOP", 1),
    ("POP3 CAPA", 1),
    ("POP3 STLS", 1),
];

/// Postfix, which takes mails on port 2525 and throws them away; ended when dropped.
struct Postfix {
    _running: Running,
    root: PathBuf,
}

impl Postfix {
    fn start(namespace: &str, root: &Path) -> Self {
        let at = root.display();
        for folder in ["postfix", "queue", "data"] {
            fs::create_dir(root.join(folder)).unwrap();
        }
        give("postfix", &root.join("data"));
        let main = format!(
            "compatibility_level = 3.6\n\
             queue_directory = {at}/queue\n\
             data_directory = {at}/data\n\
             maillog_file = {at}/postfix.log\n\
             maillog_file_prefixes = {at}\n\
             myhostname = mail.example\n\
             mydestination =\n\
             mynetworks = 192.0.2.0/24\n\
             inet_interfaces = all\n\
             inet_protocols = ipv4\n\
             default_transport = discard:\n\
             relay_transport = discard:\n\
             alias_maps =\n\
             local_recipient_maps =\n\
             smtpd_peername_lookup = no\n\
             smtpd_relay_restrictions = check_recipient_access inline:{{refused@refused.example=REJECT}}, permit_mynetworks, reject\n\
             smtpd_tls_security_level = may\n\
             smtpd_tls_cert_file = {at}/cert.pem\n\
             smtpd_tls_key_file = {at}/key.pem\n\
             smtpd_sasl_auth_enable = yes\n\
             smtpd_sasl_type = dovecot\n\
             smtpd_sasl_path = {at}/run/smtp-auth\n"
        );
        let services = "2525 inet n - n - - smtpd\n\
             pickup unix n - n 60 1 pickup\n\
             cleanup unix n - n - 0 cleanup\n\
             qmgr unix n - n 300 1 qmgr\n\
             tlsmgr unix - - n 1000? 1 tlsmgr\n\
             rewrite unix - - n - - trivial-rewrite\n\
             bounce unix - - n - 0 bounce\n\
             defer unix - - n - 0 bounce\n\
             error unix - - n - - error\n\
             discard unix - - n - - discard\n\
             anvil unix - - n - 1 anvil\n\
             postlog unix-dgram n - n - 1 postlogd\n";
        fs::write(root.join("postfix/main.cf"), main).unwrap();
        fs::write(root.join("postfix/master.cf"), services).unwrap();
        let folder = format!("{at}/postfix");
        let arguments = ["-c", &folder, "start-fg"];
        Self {
            _running: process::start_in(namespace, Path::new("postfix"), arguments).unwrap(),
            root: root.to_owned(),
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.root.join("postfix.log")).unwrap_or_default()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // It leaves the process group that it is started in.
        let pid = fs::read_to_string(self.root.join("queue/pid/master.pid"));
        if let Some(pid) = pid.ok().and_then(|pid| pid.trim().parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
}

/// Makes `user` the owner of a folder.
fn give(user: &str, folder: &Path) {
    let arguments = [user.as_ref(), folder.as_os_str()];
    let outcome = process::run(Path::new("chown"), arguments, PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
}

/// Dovecot, with IMAP on port 1143 and POP3 on 1110. It knows every user by the same password, and authenticates those of Postfix too.
fn start_dovecot(namespace: &str, root: &Path) -> Running {
    let at = root.display();
    fs::create_dir(root.join("mail")).unwrap();
    give("nobody", &root.join("mail"));
    let configuration = format!(
        "base_dir = {at}/run\n\
         state_dir = {at}/run\n\
         log_path = {at}/dovecot.log\n\
         protocols = imap pop3\n\
         listen = *\n\
         ssl = yes\n\
         ssl_cert = <{at}/cert.pem\n\
         ssl_key = <{at}/key.pem\n\
         disable_plaintext_auth = no\n\
         auth_mechanisms = plain login cram-md5 apop\n\
         mail_location = maildir:{at}/mail/%u\n\
         first_valid_uid = 1\n\
         passdb {{\n driver = static\n args = password={{PLAIN}}{PASSWORD}\n}}\n\
         userdb {{\n driver = static\n args = uid=nobody gid=nogroup home={at}/mail/%u\n}}\n\
         service imap-login {{\n inet_listener imap {{\n port = 1143\n }}\n inet_listener imaps {{\n port = 0\n }}\n}}\n\
         service pop3-login {{\n inet_listener pop3 {{\n port = 1110\n }}\n inet_listener pop3s {{\n port = 0\n }}\n}}\n\
         service auth {{\n unix_listener smtp-auth {{\n mode = 0666\n }}\n}}\n"
    );
    let file = root.join("dovecot.conf");
    fs::write(&file, configuration).unwrap();
    let arguments = ["-F".as_ref(), "-c".as_ref(), file.as_os_str()];
    process::start_in(namespace, Path::new("dovecot"), arguments).unwrap()
}

/// A mail: sender, recipients, Message-ID, subject.
type Mail = (String, BTreeSet<String>, String, String);

/// What is behind `start` in `line`, up to `end`.
fn between<'a>(line: &'a str, start: &str, end: char) -> Option<&'a str> {
    line.split_once(start)?.1.split(end).next()
}

/// Mails by Message-ID, as Postfix has logged them: senders and recipients.
fn logged_mails(log: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut by_queue: BTreeMap<&str, (String, String, BTreeSet<String>)> = BTreeMap::new();
    for line in log.lines() {
        let Some((queue, text)) = line
            .split_once("]: ")
            .and_then(|(_, rest)| rest.split_once(": "))
        else {
            continue;
        };
        let mail = by_queue.entry(queue).or_default();
        if let Some(id) = between(text, "message-id=<", '>') {
            mail.0 = id.to_owned();
        } else if text.contains("status=sent") {
            mail.2.extend(between(text, "to=<", '>').map(str::to_owned));
        } else if text.contains("queue active") {
            mail.1 = between(text, "from=<", '>').unwrap().to_owned();
        }
    }
    by_queue.remove("NOQUEUE");
    let mails = by_queue.into_values().filter(|(id, ..)| !id.is_empty());
    mails.map(|(id, from, to)| (id, (from, to))).collect()
}

/// How often each command was said in clear, as Postfix has logged it at the end of each session.
fn logged_commands(log: &str) -> BTreeMap<String, usize> {
    let mut commands = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("disconnect from")) {
        let counts: Vec<_> = line
            .split(' ')
            .filter_map(|word| word.split_once('='))
            .collect();
        let is_encrypted = counts.iter().any(|(name, _)| *name == "starttls");
        for (name, count) in counts {
            // All of those before the slash were accepted.
            let count: usize = count.rsplit('/').next().unwrap().parse().unwrap();
            let in_clear = match (name, is_encrypted) {
                ("commands", _) => 0,
                (_, false) => count,
                ("ehlo" | "starttls", true) => 1,
                _ => 0,
            };
            if in_clear > 0 {
                let command = format!("SMTP {}", name.to_uppercase());
                *commands.entry(command).or_default() += in_clear;
            }
        }
    }
    commands
}

/// Who has logged in in clear: protocol, user, mechanism.
fn logged_users(postfix: &str, dovecot: &str) -> BTreeSet<[String; 3]> {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let sent = postfix.lines().filter(|line| line.contains("sasl_method="));
    let sent = sent.map(|line| {
        let user = line.split("sasl_username=").nth(1);
        let method = between(line, "sasl_method=", ',');
        ["SMTP".to_owned(), text(user), text(method)]
    });
    let is_in_clear = |line: &&str| line.contains("Login: ") && !line.contains(", TLS");
    let fetched = dovecot.lines().filter(is_in_clear).map(|line| {
        let protocol = if line.contains("imap-login") {
            "IMAP"
        } else {
            "POP3"
        };
        let (user, method) = (between(line, "user=<", '>'), between(line, "method=", ','));
        [protocol.to_owned(), text(user), text(method)]
    });
    sent.chain(fetched).collect()
}

/// What was told.
#[derive(Default)]
struct Found {
    sent: BTreeSet<Mail>,
    /// Protocol, Message-ID, subject.
    fetched: BTreeSet<[String; 3]>,
    commands: BTreeMap<String, usize>,
    users: BTreeSet<[String; 3]>,
    started_tls: BTreeSet<String>,
}

impl Found {
    fn add(&mut self, told: Told) {
        let metadata = told.metadata.unwrap_or_default();
        let protocol = metadata.protocol;
        let get = |key: &str| metadata.details.get(key).cloned().unwrap_or_default();
        let commands = get("email.command");
        for command in commands.split(',').filter(|name| !name.is_empty()) {
            *self
                .commands
                .entry(format!("{protocol} {command}"))
                .or_default() += 1;
        }
        if get("email.starttls") == "started" {
            self.started_tls.insert(protocol.clone());
        }
        let (user, method) = (get("email.auth_user"), get("email.auth_method"));
        if !user.is_empty() {
            // Dovecot calls them so.
            let method = match (&protocol[..], &method[..]) {
                ("IMAP", "LOGIN") | (_, "USER/PASS") => "PLAIN".to_owned(),
                _ => method,
            };
            self.users.insert([protocol.clone(), user, method]);
        }
        let email = metadata.email.unwrap_or_default();
        if email.message_id.is_empty() {
            return;
        }
        if protocol == "SMTP" {
            let recipients = email.rcpt_to.into_iter().collect();
            let mail = (email.mail_from, recipients, email.message_id, email.subject);
            self.sent.insert(mail);
        } else {
            self.fetched
                .insert([protocol, email.message_id, email.subject]);
        }
    }
}

#[test]
fn what_clients_and_servers_of_mail_say_is_told() {
    let programs = [
        ("postfix", "postfix"),
        ("dovecot", "dovecot-imapd, dovecot-pop3d"),
        ("python3", "python3"),
    ];
    let Some(peers) = Peers::new("mail", &programs) else {
        return;
    };
    let folder = tempdir().unwrap();
    let root = folder.path();
    // The servers' own users look into it.
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    certify(root, "mail.example").unwrap();
    let dovecot = start_dovecot(peers.server(), root);
    let postfix = Postfix::start(peers.server(), root);

    let sink = root.join("sink");
    let node = peers.capture("email", &sink, &[]).unwrap();
    let is_up = || {
        let ports = process::start_in(peers.server(), Path::new("ss"), ["-Hltn"]).unwrap();
        let listening = ports.finish(PATIENCE).unwrap().stdout;
        let all = [":2525 ", ":1143 ", ":1110 "];
        all.iter()
            .all(|port| listening.contains(port))
            .then_some(())
    };
    wait_for(PATIENCE, is_up).expect("the servers listen");

    let address = peers.server_address();
    let arguments = ["-c", SCRIPT, &address, PASSWORD];
    let client = process::start_in(peers.client(), Path::new("python3"), arguments).unwrap();
    let client = client.finish(PATIENCE).unwrap();
    assert_eq!(client.code(), 0, "{}{}", client.stderr, postfix.log());
    let is_delivered = || {
        let log = postfix.log();
        (log.matches(": removed").count() == MAILS).then_some(log)
    };
    let log = wait_for(PATIENCE, is_delivered).expect("Postfix delivers all mails");
    node.wait_until(|status| status["ledger"]["quiet"] == true)
        .expect("the node comes to rest");
    let outcome = node.terminate().unwrap();
    assert_eq!(outcome.code(), 0, "{}{}", outcome.stdout, outcome.stderr);
    end(dovecot).unwrap();
    let fetching_log = fs::read_to_string(root.join("dovecot.log")).unwrap();

    let mut found = Found::default();
    for told in processor::told(&sink).unwrap() {
        found.add(told);
    }
    let logged = logged_mails(&log);
    assert_eq!(logged.len(), MAILS, "{log}");
    let (mut sent, mut fetched) = (BTreeSet::new(), BTreeSet::new());
    for line in client.stdout.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        let id = text("id").trim_matches(['<', '>']).to_owned();
        if line["what"] == "sent" {
            let (from, to) = logged[&id].clone();
            sent.insert((from, to, id, text("subject")));
        } else {
            fetched.insert([text("what"), id, text("subject")]);
        }
    }
    assert_eq!(found.sent, sent);
    assert_eq!(found.fetched, fetched);
    let mut commands = logged_commands(&log);
    commands.extend(FETCHING.map(|(name, count)| (name.to_owned(), count)));
    assert_eq!(found.commands, commands);
    assert_eq!(found.users, logged_users(&log, &fetching_log));
    assert_eq!(
        found.started_tls,
        ["IMAP", "POP3", "SMTP"].map(str::to_owned).into()
    );
    let all = fs::read_to_string(sink.join("packets.jsonl")).unwrap();
    for secret in ENCODED.into_iter().chain([PASSWORD]) {
        assert!(!all.contains(secret), "{secret} is told");
    }
}
