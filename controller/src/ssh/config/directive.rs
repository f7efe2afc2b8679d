//! What becomes of each directive.

/// What becomes of a directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    /// It is obeyed.
    Obeyed,
    /// It changes nothing that matters here.
    Ignored,
    /// It is not obeyed, and worth a word.
    Warned(&'static str),
    /// It would change where or how to connect: an error unless its value is one of these.
    Refused(&'static [&'static str], &'static str),
    /// `ssh` does not know it either.
    Unknown,
}

const OBEYED: &[&str] = &[
    "addressfamily",
    "batchmode",
    "challengeresponseauthentication",
    "connecttimeout",
    "globalknownhostsfile",
    "hashknownhosts",
    "host",
    "hostkeyalias",
    "hostname",
    "identitiesonly",
    "identityagent",
    "identityfile",
    "ignoreunknown",
    "include",
    "kbdinteractiveauthentication",
    "match",
    "passwordauthentication",
    "port",
    "preferredauthentications",
    "proxycommand",
    "proxyjump",
    "pubkeyauthentication",
    "stricthostkeychecking",
    "user",
    "userknownhostsfile",
];

const IGNORED: &[&str] = &[
    "addkeystoagent",
    "canonicaldomains",
    "canonicalizefallbacklocal",
    "canonicalizemaxdots",
    "canonicalizepermittedcnames",
    "casignaturealgorithms",
    "checkhostip",
    "cipher",
    "clearallforwardings",
    "compression",
    "compressionlevel",
    "connectionattempts",
    "controlmaster",
    "controlpath",
    "controlpersist",
    "dynamicforward",
    "enableescapecommandline",
    "enablesshkeysign",
    "escapechar",
    "exitonforwardfailure",
    "fingerprinthash",
    "forkafterauthentication",
    "forwardagent",
    "forwardx11",
    "forwardx11timeout",
    "forwardx11trusted",
    "gatewayports",
    "gssapiauthentication",
    "gssapiclientidentity",
    "gssapidelegatecredentials",
    "gssapikeyexchange",
    "gssapirenewalforcesrekey",
    "gssapiserveridentity",
    "gssapitrustdns",
    "hostbasedacceptedalgorithms",
    "hostbasedkeytypes",
    "ipqos",
    "kbdinteractivedevices",
    "keepalive",
    "localcommand",
    "localforward",
    "loglevel",
    "logverbose",
    "numberofpasswordprompts",
    "obscurekeystroketiming",
    "permitlocalcommand",
    "permitremoteopen",
    "protocol",
    "rekeylimit",
    "remotecommand",
    "remoteforward",
    "requesttty",
    "rhostsrsaauthentication",
    "rsaauthentication",
    "sendenv",
    "serveralivecountmax",
    "serveraliveinterval",
    "sessiontype",
    "setenv",
    "stdinnull",
    "streamlocalbindmask",
    "streamlocalbindunlink",
    "syslogfacility",
    "tag",
    "tcpkeepalive",
    "tunnel",
    "tunneldevice",
    "updatehostkeys",
    "useprivilegedport",
    "useroaming",
    "verifyhostkeydns",
    "visualhostkey",
    "xauthlocation",
];

/// What becomes of a directive, by its name in lower case.
pub(super) fn treatment(keyword: &str) -> Treatment {
    use Treatment::{Refused, Warned};
    if OBEYED.binary_search(&keyword).is_ok() {
        return Treatment::Obeyed;
    }
    if IGNORED.binary_search(&keyword).is_ok() {
        return Treatment::Ignored;
    }
    match keyword {
        "proxyusefdpass" => Refused(&["no"], "it is not supported"),
        "bindaddress" | "bindinterface" => Refused(&[], "choosing the local address is not supported"),
        "hostbasedauthentication" => Refused(&["no"], "host-based authentication is not supported"),
        "pkcs11provider" | "smartcarddevice" => {
            Refused(&["none"], "keys of tokens are supported only through ssh-agent")
        }
        "securitykeyprovider" => Refused(
            &["internal", "none"],
            "security keys are supported only through ssh-agent",
        ),
        "canonicalizehostname" => Refused(&["no", "none"], "canonical names are not supported"),
        "ciphers" => Refused(
            &[],
            "the ciphers are fixed: aes128-gcm, aes256-gcm, chacha20-poly1305",
        ),
        "kexalgorithms" => Refused(
            &[],
            "the key exchanges are fixed: mlkem768x25519, curve25519, diffie-hellman-group16 and 18",
        ),
        "macs" => Refused(
            &[],
            "the MACs are fixed: those of the ciphers, which authenticate themselves",
        ),
        "revokedhostkeys" => Refused(
            &["none"],
            "lists of revoked keys are supported only as `@revoked` lines in known_hosts",
        ),
        "requiredrsasize" => Warned("RSA keys of hosts need 2048 bits whatever it says"),
        "hostkeyalgorithms" => Warned("the algorithms of host keys follow from the recorded keys"),
        "pubkeyacceptedalgorithms" | "pubkeyacceptedkeytypes" => {
            Warned("the algorithms of user keys are fixed")
        }
        "certificatefile" => Warned("user certificates are not supported"),
        "knownhostscommand" => Warned("host keys are read from files only"),
        "nohostauthenticationforlocalhost" => Warned("host keys are always checked"),
        _ => Treatment::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_and_disjoint() {
        assert!(OBEYED.is_sorted());
        assert!(IGNORED.is_sorted());
        assert!(OBEYED.iter().all(|keyword| !IGNORED.contains(keyword)));
    }
}
