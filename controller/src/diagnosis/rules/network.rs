//! What a job could not reach.

use super::program::line;
use super::{PLAIN, Rule, log, run, tell};

/// Rows about the network.
pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "name_unknown",
        when: "a name could not be resolved from within the container",
        looks: &[log(
            r"Temporary failure in name resolution|Name or service not known|NameResolutionError|\[Errno -[235]\]|getaddrinfo (?:ENOTFOUND|EAI_AGAIN)|Could not resolve host:? (?P<name>[A-Za-z0-9._-]+)|failed to lookup address information|dial tcp: lookup (?P<name2>[A-Za-z0-9._-]+).*no such host",
        )],
        say: "the job could not resolve a name[: `{name}`][; its network is `{network}`]",
        remedies: &[
            tell(
                "look whether the host itself can (`getent hosts huggingface.co`), and at `\"dns\"` in /etc/docker/daemon.json",
            ),
            run("look at the whole host", "farrun host doctor {host}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "certificate",
        when: "a certificate was not trusted",
        looks: &[log(
            r"SSL: CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError|SSL certificate problem|certificate verify failed|x509: certificate",
        )],
        say: "a server's certificate is not trusted in the container[: {said}]",
        figures: line,
        remedies: &[tell(
            "a proxy that opens encrypted connections needs its certificate in the image (REQUESTS_CA_BUNDLE, SSL_CERT_FILE); a wrong clock of the host does the same",
        )],
        ..PLAIN
    },
    Rule {
        code: "address_in_use",
        when: "a port that the job wanted to listen on was taken",
        looks: &[log(
            r"(?:Errno 98\]|EADDRINUSE|os error 98\)?|: )\s*(?:error while attempting to bind on address .*)?[Aa]ddress already in use|EADDRINUSE",
        )],
        say: "a port that the job wanted to listen on was taken",
        remedies: &[tell(
            "another job on the host's network uses it (for torchrun: `--master-port`, or MASTER_PORT in the environment); without `--network host` each job has ports of its own",
        )],
        ..PLAIN
    },
    Rule {
        code: "unreachable",
        when: "a server did not answer the job",
        looks: &[
            log(
                r"(?:ConnectionRefusedError: |\[Errno 111\] |ECONNREFUSED|[Cc]onnect(?:ion)? (?:to \S+ )?(?:failed: )?)Connection refused|ECONNREFUSED",
            ),
            log(
                r"\[Errno 10[134]\] (?:Network is unreachable|Connection reset by peer)|Network is unreachable$|No route to host",
            ),
            log(
                r"(?:ConnectTimeout|ReadTimeout|ConnectTimeoutError|ReadTimeoutError|Max retries exceeded with url|ConnectionResetError|RemoteDisconnected|ProxyError)\b.*",
            ),
            log(r"curl: \((?:7|28|35|52|56)\) "),
        ],
        say: "a server did not answer the job[: {said}][; its network is `{network}`]",
        figures: line,
        remedies: &[
            tell(
                "look whether the host reaches the internet, and whether jobs need a proxy (`--env HTTPS_PROXY=…`)",
            ),
            run("order it again", "farrun rerun {run}"),
        ],
        ..PLAIN
    },
];
