//! `~/.ssh/config`, read as `ssh -G` reads it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use farrun::model::HostSettings;
use farrun::ssh::config::{ConfigFiles, Resolved, resolve};
use farrun::ssh::{AgentSocket, Endpoint, SshError};
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

struct Home {
    folder: tempfile::TempDir,
    files: ConfigFiles,
}

fn home(config: &str) -> Home {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join(".ssh")).unwrap();
    let files = ConfigFiles {
        user: folder.path().join(".ssh/config"),
        global: folder.path().join("ssh_config"),
        home: folder.path().to_owned(),
        local_user: "me".to_owned(),
    };
    fs::write(&files.user, config).unwrap();
    Home { folder, files }
}

impl Home {
    fn find(&self, name: &str) -> Result<Resolved, SshError> {
        resolve(name, &HostSettings::default(), &self.files)
    }

    fn endpoint(&self, name: &str) -> Endpoint {
        self.find(name).unwrap().endpoint
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The error for a host: line and directive.
    fn error(&self, name: &str) -> (usize, String) {
        match self.find(name).unwrap_err() {
            SshError::Config { line, directive, .. } => (line, directive),
            other => panic!("{other}"),
        }
    }

    fn by_ssh(&self, name: &str) -> HashMap<String, Vec<String>> {
        let output = Command::new("ssh")
            .arg("-G")
            .arg("-F")
            .arg(&self.files.user)
            .arg(name)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut values: HashMap<String, Vec<String>> = HashMap::new();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
            values
                .entry(keyword.to_owned())
                .or_default()
                .push(value.to_owned());
        }
        values
    }
}

#[test]
fn the_answers_are_those_of_ssh() {
    let home = home(
        "# comment\n\
         Include {}/included/*.conf\n\
         user=\"first\"\n\
         Host gpu? !gpu9 *.lab\n\tHostName %h.example.org\n  Port = 2200\n User second\n IdentityFile /keys/one\n\
         Host gpu1\n HostName ignored.example\n Port 1\n IdentityFile \"/keys/two words\"\n IdentitiesOnly yes\n\
         Host *.lab other\n HostKeyAlias alias.lab\n ConnectTimeout 7\n HashKnownHosts yes\n AddressFamily inet\n\
         Host *\n Port 2022\n IdentityFile /keys/last\n UserKnownHostsFile /a/known /b/known\n StrictHostKeyChecking yes\n\
         \x20ServerAliveInterval 60\n SendEnv LANG LC_*\n ControlMaster auto\n LocalForward 8080 localhost:80\n",
    );
    let text = fs::read_to_string(&home.files.user).unwrap();
    let included = home.path("included");
    fs::create_dir(&included).unwrap();
    fs::write(
        included.join("a.conf"),
        "Host inner\n HostName from-include\nHost *\n",
    )
    .unwrap();
    fs::write(included.join("b.conf"), "Host deep\n Port 99\n").unwrap();
    fs::write(included.join("not-it.txt"), "Port 1\n").unwrap();
    fs::write(
        &home.files.user,
        text.replace("{}", &home.folder.path().display().to_string()),
    )
    .unwrap();
    for name in [
        "gpu1", "gpu2", "gpu9", "a.lab", "other", "inner", "deep", "stranger", "GPU1",
    ] {
        let (ours, theirs) = (home.endpoint(name), home.by_ssh(name));
        let one = |keyword: &str| theirs.get(keyword).map(|values| values[0].clone());
        // ssh prints host names in lower case.
        assert_eq!(
            Some(ours.host_name.to_ascii_lowercase()),
            one("hostname"),
            "{name}"
        );
        assert_eq!(Some(ours.port.to_string()), one("port"), "{name}");
        assert_eq!(Some(ours.user), one("user"), "{name}");
        assert_eq!(ours.host_key_alias, one("hostkeyalias"), "{name}");
        assert_eq!(
            Some(if ours.identities_only { "yes" } else { "no" }.to_owned()),
            one("identitiesonly"),
            "{name}"
        );
        assert_eq!(
            Some(if ours.hash_known_hosts { "yes" } else { "no" }.to_owned()),
            one("hashknownhosts"),
            "{name}"
        );
        let identities: Vec<String> = ours
            .identities
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        assert_eq!(Some(&identities), theirs.get("identityfile"), "{name}");
        let known: Vec<String> = ours
            .known_hosts
            .user
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        assert_eq!(Some(known.join(" ")), one("userknownhostsfile"), "{name}");
        let timeout = one("connecttimeout").filter(|value| value != "none");
        assert_eq!(
            ours.connect_timeout.as_secs().to_string(),
            timeout.unwrap_or_else(|| "10".to_owned()),
            "{name}"
        );
    }
}

#[test]
fn without_configuration_ssh_defaults_hold() {
    let home = home("");
    fs::remove_file(&home.files.user).unwrap();
    let endpoint = home.endpoint("gpu1");
    assert_eq!(
        (endpoint.host_name.as_str(), endpoint.port, endpoint.user.as_str()),
        ("gpu1", 22, "me")
    );
    assert_eq!(endpoint.agent, AgentSocket::Environment);
    assert_eq!(endpoint.identities.last(), Some(&home.path(".ssh/id_ed25519")));
    assert_eq!(
        endpoint.known_hosts.user,
        [home.path(".ssh/known_hosts"), home.path(".ssh/known_hosts2")]
    );
    assert!(endpoint.ask_about_new_key && !endpoint.identities_named && endpoint.methods.is_none());
}

#[test]
fn the_user_s_file_comes_before_the_machine_s() {
    let home = home("Host gpu1\n Port 1\n");
    fs::write(&home.files.global, "Host *\n Port 2\n User all\n").unwrap();
    assert_eq!((home.endpoint("gpu1").port, home.endpoint("gpu2").port), (1, 2));
    assert_eq!(home.endpoint("gpu1").user, "all");
}

#[test]
fn tokens_and_the_home_folder() {
    let home = home(
        "Host gpu1\n HostName real\n User you\n Port 7\n HostKeyAlias key\n IdentityFile ~/k/%h-%n-%p-%r-%u-%k-%%\n\
         \x20IdentityFile %d/x\n UserKnownHostsFile ~/known_%n\n IdentityAgent ~/agent\n",
    );
    let endpoint = home.endpoint("gpu1");
    assert_eq!(
        endpoint.identities,
        [home.path("k/real-gpu1-7-you-me-key-%"), home.path("x")]
    );
    assert_eq!(endpoint.known_hosts.user, [home.path("known_gpu1")]);
    assert_eq!(endpoint.agent, AgentSocket::Path(home.path("agent")));
}

#[test]
fn jump_hosts_have_configurations_of_their_own() {
    let home = home(
        "Host target\n ProxyJump me@a:2201,b\n IdentityFile /target\n\
         Host a\n HostName a.real\n ProxyJump ignored-because-it-is-first-only-by-its-own\n\
         Host b\n HostName b.real\n User bee\n ProxyJump not-this\n\
         Host ignored-because-it-is-first-only-by-its-own\n HostName door\n\
         Host direct\n ProxyJump none\n\
         Host *\n User everyone\n ProxyJump bastion\n\
         Host bastion\n HostName bastion.real\n",
    );
    let hops = |name: &str| -> Vec<(String, u16, String)> {
        let jumps = home.endpoint(name).jumps;
        jumps
            .into_iter()
            .map(|hop| (hop.host_name, hop.port, hop.user))
            .collect()
    };
    let hop = |host: &str, port, user: &str| (host.to_owned(), port, user.to_owned());
    let door = hop("door", 22, "everyone");
    let bastion = hop("bastion.real", 22, "everyone");
    let chain = [
        bastion.clone(),
        door,
        hop("a.real", 2201, "me"),
        hop("b.real", 22, "bee"),
    ];
    assert_eq!(hops("target"), chain);
    assert_eq!(hops("direct"), []);
    assert_eq!(hops("anything"), [bastion]);
    assert_eq!(hops("bastion"), []);
    assert!(
        home.endpoint("target")
            .jumps
            .iter()
            .all(|hop| hop.jumps.is_empty())
    );
}

#[test]
fn a_circle_of_jumps_is_an_error() {
    let home = home("Host a\n ProxyJump b\nHost b\n ProxyJump a\n");
    assert_eq!(home.error("a").1, "proxyjump");
}

#[test]
fn what_cannot_be_obeyed_is_an_error_that_names_it() {
    for (directive, value) in [
        ("proxycommand", "nc %h %p"),
        ("proxyusefdpass", "yes"),
        ("bindaddress", "10.0.0.1"),
        ("bindinterface", "eth0"),
        ("hostbasedauthentication", "yes"),
        ("pkcs11provider", "/lib/x.so"),
        ("securitykeyprovider", "/lib/x.so"),
        ("canonicalizehostname", "yes"),
        ("ciphers", "aes256-ctr"),
        ("kexalgorithms", "curve25519-sha256"),
        ("macs", "hmac-sha2-256"),
        ("revokedhostkeys", "/etc/revoked"),
        ("nosuchdirective", "yes"),
        ("port", "0"),
        ("hostname", "%x"),
        ("identityfile", "${HOME}/key"),
        ("addressfamily", "ipx"),
    ] {
        let home = home(&format!("Host gpu1\n  {directive} {value}\n"));
        assert_eq!(home.error("gpu1"), (2, directive.to_owned()));
    }
    assert_eq!(
        home("Match host gpu1\n Port 1\n").error("gpu1"),
        (1, "match".to_owned())
    );
    assert_eq!(home("Port\n").error("gpu1"), (1, "port".to_owned()));
}

#[test]
fn what_concerns_other_hosts_stops_nobody() {
    let home = home(
        "Host other\n ProxyCommand nc %h %p\n Ciphers aes256-ctr\nHost gpu1\n ProxyCommand none\nMatch all\n Port 5\n",
    );
    assert_eq!(home.endpoint("gpu1").port, 5);
    assert!(home.endpoint("gpu1").jumps.is_empty());
}

#[test]
fn host_key_checks_are_never_loosened() {
    for value in ["no", "accept-new", "off"] {
        let home = home(&format!("StrictHostKeyChecking {value}\n"));
        let resolved = home.find("gpu1").unwrap();
        assert_eq!(resolved.warnings.len(), 1, "{:?}", resolved.warnings);
        assert!(
            resolved.warnings[0].contains("config:1: stricthostkeychecking"),
            "{:?}",
            resolved.warnings
        );
        assert!(resolved.endpoint.ask_about_new_key);
    }
    assert!(
        !home("StrictHostKeyChecking yes\n")
            .endpoint("gpu1")
            .ask_about_new_key
    );
}

#[test]
fn methods_can_be_ruled_out() {
    let methods = |config: &str| home(config).endpoint("gpu1").methods;
    assert_eq!(
        methods("PasswordAuthentication no\n").unwrap(),
        ["publickey", "keyboard-interactive"]
    );
    assert_eq!(
        methods("PreferredAuthentications gssapi-with-mic,publickey\n").unwrap(),
        ["publickey"]
    );
    assert_eq!(methods("BatchMode yes\n").unwrap(), ["publickey"]);
    assert_eq!(
        methods("PubkeyAuthentication no\n").unwrap(),
        ["keyboard-interactive", "password"]
    );
}

#[test]
fn unknown_directives_are_ignored_on_request() {
    let home = home("IgnoreUnknown Use*,Fancy\nUseKeychain yes\nFancy pants\nPort 3\n");
    assert_eq!(home.endpoint("gpu1").port, 3);
}

#[test]
fn a_file_that_others_could_have_written_is_not_obeyed() {
    let home = home("Port 3\n");
    fs::set_permissions(&home.files.user, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(matches!(
        home.find("gpu1"),
        Err(SshError::ConfigUnreadable { .. })
    ));
}

#[test]
fn includes_end() {
    let home = home("Include config\n");
    assert_eq!(home.error("gpu1").1, "include");
}

#[test]
fn an_address_is_looked_up_as_if_it_had_been_typed() {
    let home = home("Host 10.0.0.1\n Port 2200\n User conf\n IdentityFile /conf\nHost gpu1\n Port 9\n");
    let find = |address: &str, identity: Option<&str>| {
        let settings = HostSettings {
            address: Some(address.to_owned()),
            identity: identity.map(str::to_owned),
            ..HostSettings::default()
        };
        resolve("gpu1", &settings, &home.files).unwrap().endpoint
    };
    let plain = find("10.0.0.1", None);
    assert_eq!(
        (plain.name.as_str(), plain.host_name.as_str(), plain.port),
        ("gpu1", "10.0.0.1", 2200)
    );
    let full = find("you@10.0.0.1:22", Some("~/mine"));
    assert_eq!((full.user.as_str(), full.port), ("you", 22));
    assert_eq!(full.identities, [home.path("mine")]);
    assert_eq!(find("[::1]:2022", None).key_name(), "[::1]:2022");
}
