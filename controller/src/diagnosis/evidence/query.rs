//! What `nvidia-smi -q` says of each GPU: fields below headings, told apart by their indentation.

/// Most lines that are read, and most fields of one GPU.
const MOST: (usize, usize) = (20_000, 2_000);
/// Deepest heading that is followed.
const DEEPEST: usize = 8;

/// One GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::diagnosis) struct Query {
    /// Its UUID; empty when it is not told.
    pub(in crate::diagnosis) uuid: String,
    /// Fields with the headings above them, `Remapped Rows/Pending`, and their values.
    pub(in crate::diagnosis) fields: Vec<(String, String)>,
}

/// Every GPU in the text.
pub(super) fn gpus(text: &str) -> Vec<Query> {
    let mut gpus: Vec<Query> = Vec::new();
    let mut headings: Vec<(usize, &str)> = Vec::new();
    for line in text.lines().take(MOST.0) {
        let name = line.trim();
        let depth = line.len() - line.trim_start().len();
        if depth == 0 {
            if name.starts_with("GPU ") && !name.contains(" : ") {
                gpus.push(Query::default());
            }
            headings.clear();
            continue;
        }
        let Some(gpu) = gpus.last_mut() else { continue };
        headings.retain(|(above, _)| *above < depth);
        let (name, value) = match name.split_once(" : ") {
            Some((name, value)) => (name.trim_end(), Some(value.trim())),
            None => (name, None),
        };
        if let Some(value) = value.filter(|_| gpu.fields.len() < MOST.1) {
            let path: Vec<&str> = headings
                .iter()
                .map(|(_, heading)| *heading)
                .chain([name])
                .collect();
            if path == ["GPU UUID"] {
                value.clone_into(&mut gpu.uuid);
            }
            gpu.fields.push((path.join("/"), value.to_owned()));
        }
        // A field may have further ones below it.
        if headings.len() < DEEPEST {
            headings.push((depth, name));
        }
    }
    gpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_the_headings_above_them() {
        let text = "\n==============NVSMI LOG==============\n\nDriver Version                            : 550.54.15\n\
                    Attached GPUs                             : 2\nGPU 00000000:0B:00.0\n    \
                    GPU UUID                              : GPU-aaaa\n    \
                    Clocks Event Reasons\n        \
                    HW Slowdown                       : Active\n            \
                    HW Thermal Slowdown           : Not Active\n        \
                    Sync Boost                        : Not Active\n    \
                    Remapped Rows\n        Pending                           : Yes\n\
                    GPU 00000000:0C:00.0\n    GPU UUID                              : GPU-bbbb\n";
        let gpus = gpus(text);
        let uuids: Vec<&str> = gpus.iter().map(|gpu| gpu.uuid.as_str()).collect();
        assert_eq!(uuids, ["GPU-aaaa", "GPU-bbbb"]);
        let told: Vec<(&str, &str)> = gpus[0]
            .fields
            .iter()
            .map(|(path, value)| (path.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("GPU UUID", "GPU-aaaa"),
                ("Clocks Event Reasons/HW Slowdown", "Active"),
                (
                    "Clocks Event Reasons/HW Slowdown/HW Thermal Slowdown",
                    "Not Active"
                ),
                ("Clocks Event Reasons/Sync Boost", "Not Active"),
                ("Remapped Rows/Pending", "Yes"),
            ]
        );
    }

    #[test]
    fn whatever_is_there_is_read_in_part() {
        for text in ["", "GPU x", " : ", "GPU x\n : \n      :", "    GPU UUID : y\n"] {
            assert!(gpus(text).iter().all(|gpu| gpu.uuid.is_empty()), "{text}");
        }
        let deep: String = (1..100)
            .map(|depth| format!("{}x : y\n", " ".repeat(depth)))
            .collect();
        let fields = &gpus(&format!("GPU x\n{deep}"))[0].fields;
        assert!(fields.iter().all(|(path, _)| path.len() < 4 * DEEPEST));
    }
}
