//! What to try, as people are shown it: the remedies of the cause, and where to look when those do not say.

use super::{Diagnosis, Remedy};
use crate::model::Run;

/// The remedies of the cause. Without a cause, where to look further; and where only the end of the log is shown, how to
/// read more of it.
pub fn steps(diagnosis: &Diagnosis, run: &Run) -> Vec<Remedy> {
    let id = &run.id;
    let step = |text: &str, command: String| Remedy {
        text: text.to_owned(),
        command: Some(command),
    };
    let more = || step("read more of its log", format!("farrun logs {id} --tail 100"));
    let Some(cause) = &diagnosis.cause else {
        // What never started has no log.
        let mut steps: Vec<Remedy> = run.started_at.map(|_| more()).into_iter().collect();
        steps.push(step(
            "look at its image, command, user and mounts",
            format!("farrun show {id}"),
        ));
        steps.push(step(
            "order it again, to see whether it ends the same way",
            format!("farrun rerun {id}"),
        ));
        return steps;
    };
    let mut steps = cause.remedies.clone();
    let ends = diagnosis.around.is_empty() && !diagnosis.last_lines.is_empty();
    let is_told = |remedy: &Remedy| {
        let command = remedy.command.as_deref();
        command.is_some_and(|command| command.starts_with("farrun logs "))
    };
    if ends && !steps.iter().any(is_told) {
        steps.push(more());
    }
    steps
}

#[cfg(test)]
mod tests {
    use crate::diagnosis::tests::Folder;
    use crate::diagnosis::{Diagnosis, steps};

    fn commands(diagnosis: &Diagnosis, folder: &Folder) -> Vec<String> {
        let steps = steps(diagnosis, &folder.run);
        steps.into_iter().filter_map(|step| step.command).collect()
    }

    #[test]
    fn without_a_cause_there_is_something_to_type() {
        let mut folder = Folder::new().log("nobody has seen this before\n");
        let diagnosis = folder.read();
        assert_eq!(diagnosis.cause, None);
        let all = [
            "farrun logs rs_abcdefgh --tail 100",
            "farrun show rs_abcdefgh",
            "farrun rerun rs_abcdefgh",
        ];
        assert_eq!(commands(&diagnosis, &folder), all);
        folder.run.started_at = None;
        assert_eq!(commands(&diagnosis, &folder), all[1..]);
    }

    #[test]
    fn what_only_has_an_end_is_told_where_the_rest_is() {
        let mut folder = Folder::new().log("step 2\n");
        folder.run.reason = farrun_protocol::verdict::Reason::from_code("time_limit");
        folder.run.exit_code = None;
        let diagnosis = folder.read();
        assert_eq!(
            diagnosis.cause.as_ref().map(|cause| cause.code),
            Some("time_limit")
        );
        let logs = |diagnosis: &Diagnosis| {
            let commands = commands(diagnosis, &folder);
            let logs = commands
                .iter()
                .filter(|command| command.starts_with("farrun logs "));
            logs.count()
        };
        assert_eq!(logs(&diagnosis), 1);
        let known = Folder::new()
            .log("ModuleNotFoundError: No module named 'x'\n")
            .read();
        assert_eq!(logs(&known), 0);
    }

    #[test]
    fn the_line_of_the_cause_is_marked_wherever_it_stands() {
        let diagnosis = Folder::new()
            .log("one\nModuleNotFoundError: No module named 'x'\nend\n")
            .read();
        for lines in [&diagnosis.around, &diagnosis.last_lines] {
            let marked: Vec<bool> = lines.iter().map(|line| line.cause).collect();
            assert_eq!(marked, [false, true, false]);
        }
    }
}
