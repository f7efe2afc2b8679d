//! Models: fetched, cached, allowed, whole.

use super::{PLAIN, Rule, log, run, tell};

const TOKEN: super::Try = run("give the job your token", "farrun rerun {run} --secret HF_TOKEN");

/// Rows about models.
pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "model_gated",
        when: "the licence of a model is not accepted, or the token is missing",
        looks: &[
            log(r"GatedRepoError"),
            log(r"Cannot access gated repo for url \S+"),
            log(r"Access to model (?P<model>\S+) is restricted"),
            log(r"You are trying to access a gated repo"),
        ],
        say: "the model[ `{model}`] is only for those who accepted its licence, and the job showed no token of such an account",
        remedies: &[
            tell("accept the licence on the model's page, with the account of your token"),
            TOKEN,
        ],
        ..PLAIN
    },
    Rule {
        code: "model_denied",
        when: "the model hub refused the job: token missing, wrong or without the right",
        looks: &[
            log(r"\b(?P<status>401|403) Client Error: .*huggingface\.co"),
            log(
                r"(?:Invalid user token|Invalid credentials in Authorization header|Invalid username or password\.)",
            ),
            log(r"huggingface\.co.*(?:status code: )?\b(?P<status>401|403)\b"),
        ],
        say: "the model hub refused the job[ ({status})]: its token is missing, wrong, or has no right to this model",
        remedies: &[
            TOKEN,
            tell("a private model needs a token of an account that may read it"),
        ],
        ..PLAIN
    },
    Rule {
        code: "model_unknown",
        when: "the model hub has no such model, revision or file",
        looks: &[
            log(r"\b(?:RepositoryNotFoundError|RevisionNotFoundError|(?:Remote)?EntryNotFoundError):"),
            log(r"OSError: (?P<model>\S+) is not a local folder and is not a valid model identifier"),
            log(r"\b404 Client Error: .*huggingface\.co"),
            log(r"HFValidationError: "),
        ],
        say: "the model hub has no such model, revision or file[: `{model}`]; a private one looks the same without a token",
        remedies: &[tell("compare the name with the model's page"), TOKEN],
        ..PLAIN
    },
    Rule {
        code: "model_not_cached",
        when: "a model is not in the cache of the host and the job may not fetch it",
        looks: &[
            log(r"(?:IncompleteSnapshotError|LocalEntryNotFoundError|OfflineModeIsEnabled)\b"),
            log(r"We couldn't connect to '?https://huggingface\.co'? to load (?:this|the) file"),
            log(
                r"Cannot find (?:an appropriate cached snapshot folder|the requested files in the (?:disk|local) cache)",
            ),
            log(
                r"outgoing traffic has been disabled|Cannot reach \S*huggingface\.co\S*: offline mode is enabled",
            ),
        ],
        say: "a model is not whole in the cache of `{host}`, and the job was offline or could not reach the model hub",
        remedies: &[
            tell(
                "fetch it once on the host with `hf download ORG/NAME`, into the folder that the job mounts as its cache",
            ),
            run(
                "let the job go online",
                "farrun rerun {run} --env HF_HUB_OFFLINE=0 --env TRANSFORMERS_OFFLINE=0",
            ),
        ],
        ..PLAIN
    },
    Rule {
        code: "model_rate_limit",
        when: "the model hub has had too many requests",
        looks: &[log(
            r"\b429 (?:Client Error: )?Too Many Requests|HTTP Error 429|status code:? 429",
        )],
        say: "the server has had too many requests from the job or its host",
        remedies: &[TOKEN, run("wait and order it again", "farrun rerun {run}")],
        ..PLAIN
    },
    Rule {
        code: "model_damaged",
        when: "a model file is damaged or not whole",
        looks: &[
            log(r"SafetensorError: Error while deserializing header"),
            log(
                r"(?:HeaderTooLarge|HeaderTooSmall|InvalidHeaderDeserialization|MetadataIncompleteBuffer|InvalidHeaderLength|InvalidHeaderStart)\b",
            ),
            log(r"PytorchStreamReader failed (?:reading zip archive|locating file|in locating)"),
            log(
                r"UnpicklingError: (?:invalid load key, '(?P<key>.{1,6})'|pickle data was truncated|unpickling stack underflow)",
            ),
            log(r"Consistency check failed: file should be of size"),
            log(r"RuntimeError: unexpected EOF, expected [0-9]+ more bytes"),
        ],
        say: "a model file is damaged or not whole[: it begins with `{key}`]; a pointer of Git LFS in its place and a cut download look like this",
        remedies: &[
            tell(
                "remove the file on the host and fetch it again; the lines of the log before the error name it",
            ),
            run("see which", "farrun logs {run} --tail 60"),
        ],
        ..PLAIN
    },
    Rule {
        code: "model_mismatch",
        when: "weights do not fit the model that is to take them",
        looks: &[
            log(r"RuntimeError: Error\(s\) in loading state_dict for (?P<model>[A-Za-z0-9_.]+)"),
            log(r"size mismatch for \S+: copying a param with shape"),
        ],
        say: "the weights do not fit the model[ `{model}`] that is to take them",
        remedies: &[
            tell(
                "checkpoint and configuration are of different versions or sizes: compare the parameters of the run",
            ),
            run("see them", "farrun show {run}"),
        ],
        ..PLAIN
    },
];
