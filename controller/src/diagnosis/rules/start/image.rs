//! Images that could not be had from their registry.

use super::{AGAIN, DOCTOR};
use crate::diagnosis::judge::Case;
use crate::diagnosis::rules::{Figures, Found, Look, PLAIN, Rule, run, said, tell};
use farrun_protocol::diagnostics::IMAGE;
use farrun_protocol::spec::PullPolicy;
use farrun_protocol::verdict::Reason;

/// Rows about it.
pub(in crate::diagnosis::rules) const RULES: &[Rule] = &[
    Rule {
        code: "image_denied",
        when: "the registry refuses the image: nobody is logged in there, or the name is wrong",
        looks: &[
            said(r"pull access denied for (?P<repository>[^\s,]+)"),
            said(
                r"(?i)\b(?:unauthorized: |denied: requested access|access forbidden|no basic auth credentials|authentication required|insufficient_scope)",
            ),
            Look::Facts(|case| case.unexplained(Reason::ImageDenied)),
        ],
        say: "the registry `{registry}` refused the image `{image}`: nobody is logged in there from `{host}`, or there is no such image",
        remedies: &[
            run("log in, on the host", "docker login {registry}"),
            tell("compare the name of the image with that on the registry's page"),
            AGAIN,
        ],
        ..PLAIN
    },
    Rule {
        code: "image_rate_limit",
        when: "the registry has had too many requests from the host",
        looks: &[said(
            r"(?i)\btoomanyrequests\b|You have reached your (?:unauthenticated )?pull rate limit",
        )],
        say: "the registry `{registry}` has had too many requests from the address of `{host}`",
        remedies: &[
            run(
                "log in, on the host: accounts have a limit of their own",
                "docker login {registry}",
            ),
            tell("wait: limits of Docker Hub are counted over six hours"),
            AGAIN,
        ],
        ..PLAIN
    },
    Rule {
        code: "image_platform",
        when: "the image has no variant for the host's processor",
        looks: &[
            said(r"no matching manifest for (?P<platform>[a-z0-9/]+)"),
            said(
                r"image with reference \S+ was found but (?:its platform|does not match the specified platform|does not provide the specified platform)",
            ),
        ],
        say: "the image `{image}` has no variant for the host's processor[ ({platform})]",
        remedies: &[tell(
            "use an image that was built for this processor, or a host with another one",
        )],
        ..PLAIN
    },
    Rule {
        code: "image_tag_missing",
        when: "the registry has no such image or tag",
        looks: &[
            said(
                r"(?i)manifest(?: for \S+)?(?: not found:)? ?(?:manifest )?unknown|manifest for \S+ not found",
            ),
            said(r"(?i)repository \S+ not found|name unknown|NAME_UNKNOWN"),
            said(r"(?i)No such image:|invalid reference format"),
            Look::Facts(|case| {
                let found = case.unexplained(Reason::ImageMissing)?;
                Some(case.with_absence(found, IMAGE))
            }),
        ],
        say: "the image `{image}` does not exist: not on `{host}`, and {elsewhere}",
        figures: elsewhere,
        remedies: &[
            run("have it fetched", "farrun rerun {run} --pull-image {fetch}"),
            tell(
                "compare name and tag with the registry's page; an image of your own must be built or loaded on the host first",
            ),
            AGAIN,
        ],
        ..PLAIN
    },
    Rule {
        code: "registry_name_unknown",
        when: "the host cannot resolve the registry's name",
        looks: &[said(
            r"(?:dial tcp: )?lookup (?P<name>[^\s:]+).*(?:no such host|server misbehaving|i/o timeout|Temporary failure)",
        )],
        say: "`{host}` cannot resolve the name of the registry `{registry}`[ (`{name}`)]",
        remedies: &[
            tell("check the spelling of the image's name, and the host's DNS (`getent hosts NAME` there)"),
            DOCTOR,
        ],
        ..PLAIN
    },
    Rule {
        code: "registry_certificate",
        when: "the registry's certificate is not trusted by the host",
        looks: &[said(
            r"x509: |tls: failed to verify certificate|http: server gave HTTP response to HTTPS client",
        )],
        say: "`{host}` does not trust the certificate of the registry `{registry}`[: {said}]",
        remedies: &[
            tell(
                "put the registry's certificate into /etc/docker/certs.d/REGISTRY/ca.crt on the host, and check the host's clock",
            ),
            AGAIN,
        ],
        ..PLAIN
    },
    Rule {
        code: "registry_unreachable",
        when: "the registry does not answer the host",
        looks: &[said(
            r#"(?:Get|Head|Post) "?https?://[^"\s]+"?: .*(?:connection refused|i/o timeout|connection reset|no route to host|network is unreachable|Client\.Timeout|context deadline exceeded|TLS handshake timeout|EOF)"#,
        )],
        say: "the registry `{registry}` does not answer `{host}`[: {said}]",
        remedies: &[
            tell("look whether the host reaches the internet, and whether Docker needs a proxy there"),
            DOCTOR,
            AGAIN,
        ],
        ..PLAIN
    },
];

/// Where else an image was looked for.
fn elsewhere(case: &Case<'_>, _: &Found) -> Figures {
    if case.facts.run.spec.pull == PullPolicy::Never {
        return Figures::from([
            ("elsewhere", "the order forbids to fetch it".to_owned()),
            ("fetch", "missing".to_owned()),
        ]);
    }
    Figures::from([("elsewhere", "its registry has no such name or tag".to_owned())])
}
