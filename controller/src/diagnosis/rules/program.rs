//! The program itself: what it misses, what it was given, and, last, what it said before it ended.

use super::{Certainty, Figures, Found, Look, PLAIN, Rule, likely, log, run, tell};
use crate::diagnosis::evidence::Line;
use crate::diagnosis::judge::Case;
use crate::diagnosis::words::cut;

/// Rows about the program.
pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "library_too_new",
        when: "a library in the image needs a newer system library (glibc, libstdc++) than the image has",
        looks: &[log(
            r"version `(?P<version>(?:GLIBC|GLIBCXX|CXXABI)_[0-9.]+)' not found(?: \(required by (?P<library>[^)]+)\))?",
        )],
        say: "a library in the image needs a newer system than the image is: {version} is missing[ for {library}]",
        remedies: &[tell(
            "use an image on a newer distribution, or packages that were built for this one",
        )],
        ..PLAIN
    },
    Rule {
        code: "library_missing",
        when: "a shared library is missing in the image",
        looks: &[
            log(r"(?P<library>lib[A-Za-z0-9_+.-]+\.so[0-9.]*): cannot open shared object file"),
            log(r"error while loading shared libraries: (?P<library>[^:\s]+)"),
        ],
        say: "the image has no library `{library}`",
        figures: library,
        remedies: &[tell(
            "install the package that has it when the image is built[ ({package})]; `libcuda.so.1` comes from the host and only when the run has a GPU",
        )],
        ..PLAIN
    },
    Rule {
        code: "module_missing",
        when: "a Python module is missing in the image",
        looks: &[log(
            r"^(?:\S+: )*(?:ModuleNotFoundError|ImportError): No module named '?(?P<module>[A-Za-z0-9_.]+)'?",
        )],
        say: "the image has no Python module `{module}`",
        remedies: &[
            tell(
                "install it when the image is built, or look whether the command uses the Python that has it (a virtual environment)",
            ),
            run("see what was executed", "farrun show {run}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "import_failed",
        when: "Python modules of the image do not fit one another",
        looks: &[
            log(r"^(?:\S+: )*ImportError: cannot import name '(?P<name>[^']+)' from '(?P<module>[^']+)'"),
            log(
                r"ImportError: .*(?:undefined symbol: (?P<symbol>\S+)|numpy\.core\.multiarray failed to import)",
            ),
            log(r"A module that was compiled using NumPy 1\.x cannot be run in"),
        ],
        say: "Python modules of the image do not fit one another[: `{module}` has no `{name}`][: the symbol {symbol} is missing]",
        remedies: &[tell("pin the versions with which the program was tried")],
        ..PLAIN
    },
    Rule {
        code: "file_missing",
        when: "a file that the program wanted is not there",
        looks: &[
            log(r"FileNotFoundError: \[Errno 2\] No such file or directory: '?(?P<path>[^']+)'?"),
            log(r"can't open file '(?P<path>[^']+)': \[Errno 2\]"),
            log(
                r"(?:^|\] )(?:Error opening input(?: file)? )?(?P<path>/?[^\s:]+): No such file or directory\s*$",
            ),
            log(r"No such file or directory \(os error 2\)"),
        ],
        say: "the program found no file[ `{path}`]",
        figures: path,
        remedies: &[
            tell("inputs are below `{inputs}` in the container, outputs below `{outputs}`"),
            run("see inputs, mounts and parameters", "farrun show {run}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "arguments_wrong",
        when: "the program does not understand its arguments",
        looks: &[
            log(
                r"^\S*: error: (?P<said>(?:unrecognized arguments|argument |the following arguments are required|invalid choice|expected ).*)",
            ),
            log(
                r"(?i)^(?:error: )?(?:unrecognized|unknown|unexpected|invalid) (?:option|argument|flag):? (?P<said>\S.*)",
            ),
            log(
                r"(?i)^Error: No such option: (?P<said>\S+)|^Error: (?P<said2>(?:Invalid value for|Missing option|Missing argument|Got unexpected extra argument).*)",
            ),
        ],
        say: "the program does not understand its arguments[: {said}]",
        remedies: &[
            run("see what was executed", "farrun show {run}"),
            run(
                "order it again with other parameters",
                "farrun rerun {run} --set NAME=VALUE",
            ),
        ],
        ..PLAIN
    },
    Rule {
        code: "media_broken",
        when: "ffmpeg or a decoder cannot read an input or write an output",
        looks: &[
            log(
                r"(?P<said>Invalid data found when processing input|moov atom not found|Unknown encoder '[^']+'|Error (?:while )?(?:opening (?:encoder|output file|input)|initializing output stream|selecting an encoder|splitting the input into NAL units).*)",
            ),
            log(
                r"(?P<said>ffmpeg: (?:command )?not found|No such file or directory: 'ffmpeg'|Unable to find a suitable output format.*|cannot identify image file .*|PIL\.UnidentifiedImageError.*)",
            ),
        ],
        say: "a video or image cannot be read or written[: {said}]",
        remedies: &[
            tell(
                "play the input here: a cut download and a file of another kind look like this; a missing encoder or ffmpeg is a matter of the image",
            ),
            run("see the inputs", "farrun show {run}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "threads_refused",
        when: "the job could start no more processes or threads",
        looks: &[log(
            r"can't start new thread|pthread_create failed|fork: (?:retry: )?Resource temporarily unavailable|BlockingIOError: \[Errno 11\] Resource temporarily unavailable|Cannot fork",
        )],
        say: "the job could start no more processes or threads[: of {pids_limit} it had {pids}]",
        figures: pids,
        remedies: &[
            tell(
                "an old engine or its seccomp profile refuses newer images as well: Docker 20.10.10 or later is needed for images on recent distributions",
            ),
            run(
                "use fewer threads",
                "farrun rerun {run} --env OMP_NUM_THREADS=4 --env OPENBLAS_NUM_THREADS=4",
            ),
        ],
        ..PLAIN
    },
    Rule {
        code: "worker_failed",
        when: "a worker process ended and took the job with it",
        looks: &[
            likely(
                r"DataLoader worker \(pid(?:\(s\))? [0-9, ]+\) (?:is killed by signal|exited unexpectedly)",
            ),
            likely(r"torch\.distributed\.elastic\.multiprocessing\.errors\.ChildFailedError"),
            likely(r"BrokenProcessPool|A worker process managed by the executor was unexpectedly terminated"),
        ],
        say: "a worker process of the job ended and took the job with it[: {said}]",
        figures: line,
        remedies: &[run(
            "the first error of that worker stands before",
            "farrun logs {run} --tail 200",
        )],
        last_resort: true,
    },
    Rule {
        code: "python_exception",
        when: "a Python program ended with an exception that no other row knows; certain when its log ends with it and the exit code is 1",
        looks: &[Look::Facts(exception)],
        say: "the Python program ended with {class}[: {message}]",
        remedies: &[run("read the traceback", "farrun logs {run} --tail 60")],
        last_resort: true,
        ..PLAIN
    },
    Rule {
        code: "rust_panic",
        when: "a program ended with a panic or an uncaught exception of its own",
        looks: &[
            likely(r"^thread '[^']*'(?: \([0-9]+\))? panicked at (?P<said>.+)"),
            likely(r"^terminate called after throwing an instance of (?P<said>.+)"),
            likely(r"^panic: (?P<said>.+)"),
        ],
        say: "the program ended with an error that it did not expect: {said}",
        remedies: &[run("read the lines before", "farrun logs {run} --tail 60")],
        last_resort: true,
        ..PLAIN
    },
];

/// The line itself, cut.
pub(super) fn line(_: &Case<'_>, found: &Found) -> Figures {
    let quote = found.quotes.first().map(|quote| cut(quote.text.trim(), 200));
    quote.map(|text| ("said", text)).into_iter().collect()
}

fn library(_: &Case<'_>, found: &Found) -> Figures {
    const PACKAGES: [(&str, &str); 8] = [
        ("libGL.so", "libgl1"),
        ("libgthread-2.0.so", "libglib2.0-0"),
        ("libglib-2.0.so", "libglib2.0-0"),
        ("libgomp.so", "libgomp1"),
        ("libSM.so", "libsm6"),
        ("libXext.so", "libxext6"),
        ("libsndfile.so", "libsndfile1"),
        ("libEGL.so", "libegl1"),
    ];
    let library = found
        .figures
        .get("library")
        .map(String::as_str)
        .unwrap_or_default();
    let package = PACKAGES.iter().find(|(name, _)| library.starts_with(name));
    package
        .map(|(_, package)| ("package", format!("on Debian and Ubuntu: {package}")))
        .into_iter()
        .collect()
}

fn path(case: &Case<'_>, _: &Found) -> Figures {
    let spec = &case.facts.run.spec;
    [
        ("inputs", spec.inputs_target.clone()),
        ("outputs", spec.outputs_target.clone()),
    ]
    .into()
}

fn pids(case: &Case<'_>, _: &Found) -> Figures {
    let mut figures = Figures::new();
    let of = |names: &[&str]| case.evidence.counter(names).map(|count| count.to_string());
    figures.extend(of(&["pids.max"]).map(|count| ("pids_limit", count)));
    figures.extend(of(&["pids.peak", "pids.current"]).map(|count| ("pids", count)));
    figures
}

/// Whether an exception is what the job ended with: nothing was printed after it, and the exit code is the one that
/// Python has for it. Only where the log is here to its end.
fn is_uncaught(case: &Case<'_>, named: &Line) -> bool {
    let log = &case.evidence.log;
    let is_whole = log.missing.is_empty() && (!log.as_printed || case.facts.run.log_complete);
    let last = log.lines.iter().rfind(|line| !line.text.trim().is_empty());
    is_whole && case.exited_with(1) && last == Some(named)
}

/// The exception at the end of the last traceback, when the log ends with it.
fn exception(case: &Case<'_>) -> Option<Found> {
    let lines = &case.evidence.log.lines;
    let begin = lines.iter().rposition(|line| {
        line.text
            .trim_end()
            .ends_with("Traceback (most recent call last):")
    })?;
    let first = lines.get(begin).filter(|line| line.last_words)?;
    // What stands before the word, such as the name of a rank, stands before each line of it.
    let prefix = first.text.split("Traceback").next().unwrap_or_default();
    let named = lines.iter().skip(begin + 1).find_map(|line| {
        let text = line.text.strip_prefix(prefix)?;
        let name = text.split([':', ' ']).next().unwrap_or_default();
        let class = !text.starts_with(' ')
            && name
                .rsplit('.')
                .next()
                .is_some_and(|name| name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_'))
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._".contains(c))
            && (text.len() == name.len() || text.get(name.len()..)?.starts_with(':'));
        class.then_some((line, name, text))
    });
    let (line, name, text) = named?;
    let message = text.get(name.len() + 1..).unwrap_or_default().trim();
    let sure = match is_uncaught(case, line) {
        true => Certainty::Certain,
        false => Certainty::Likely,
    };
    let mut found = Found::with(sure)
        .figure("class", format!("`{}`", cut(name, 100)))
        .with_line(line);
    if !message.is_empty() {
        found = found.figure("message", cut(message, 300));
    }
    Some(found)
}
