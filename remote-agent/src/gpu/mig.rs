//! Instances of divided GPUs: names from `nvidia-smi -L`, memory from `nvidia-smi -q -x`. Both are asked only when a
//! GPU says that it is divided.

use super::cell;
use super::rows::is_uuid;
use super::text::lines;
use farrun_protocol::gpu::{Absence, MigDevice, Reading};
use std::collections::BTreeMap;

/// More than the seven instances that one GPU can have, on every GPU of a host.
const MOST: usize = 1024;

/// Instances by the UUID of their GPU, in the order of their place in it.
pub(super) type Instances = BTreeMap<String, Vec<MigDevice>>;

/// Reads the list of `nvidia-smi -L`: lines like
/// `  MIG 1g.10gb     Device  0: (UUID: MIG-…)` below `GPU 0: … (UUID: GPU-…)`.
pub(super) fn list(output: &[u8]) -> Instances {
    let mut instances = Instances::new();
    let mut gpu = None;
    for line in lines(output).iter().take(MOST) {
        let line = line.trim();
        let uuid = line
            .rsplit_once("(UUID:")
            .map(|(_, rest)| rest.trim().trim_end_matches(')').trim())
            .filter(|uuid| is_uuid(uuid));
        let Some(uuid) = uuid else { continue };
        if line.starts_with("GPU ") {
            gpu = Some(uuid.to_owned());
        } else if let (Some(gpu), Some(rest)) = (&gpu, line.strip_prefix("MIG ")) {
            let profile = rest.split_whitespace().next().unwrap_or_default();
            instances.entry(gpu.clone()).or_default().push(MigDevice {
                uuid: uuid.to_owned(),
                profile: super::text::bounded(profile, 40),
                memory_total: Reading::absent(Absence::NotAvailable),
                memory_used: Reading::absent(Absence::NotAvailable),
            });
        }
    }
    instances
}

/// Fills in the memory of instances from `nvidia-smi -q -x`; what cannot be read stays absent.
pub(super) fn add_memory(instances: &mut Instances, xml: &[u8]) {
    if instances.is_empty() {
        return;
    }
    let text = String::from_utf8_lossy(xml);
    let options = roxmltree::ParsingOptions {
        allow_dtd: true,
        nodes_limit: 500_000,
        ..Default::default()
    };
    let Ok(document) = roxmltree::Document::parse_with_options(&text, options) else {
        return;
    };
    for gpu in document.descendants().filter(|node| node.has_tag_name("gpu")) {
        let Some(devices) = child(gpu, "uuid").and_then(|uuid| instances.get_mut(uuid.text()?.trim())) else {
            continue;
        };
        let Some(list) = child(gpu, "mig_devices") else {
            continue;
        };
        for (place, node) in list
            .children()
            .filter(|node| node.has_tag_name("mig_device"))
            .enumerate()
        {
            let index = child(node, "index")
                .and_then(|index| index.text()?.trim().parse().ok())
                .unwrap_or(place);
            let (Some(device), Some(memory)) = (devices.get_mut(index), child(node, "fb_memory_usage"))
            else {
                continue;
            };
            device.memory_total = mebibytes(memory, "total");
            device.memory_used = mebibytes(memory, "used");
        }
    }
}

fn child<'a, 'b>(node: roxmltree::Node<'a, 'b>, name: &str) -> Option<roxmltree::Node<'a, 'b>> {
    node.children().find(|child| child.has_tag_name(name))
}

fn mebibytes(memory: roxmltree::Node<'_, '_>, name: &str) -> Reading<u64> {
    let text = child(memory, name)
        .and_then(|node| node.text())
        .unwrap_or_default();
    cell::number(text.trim(), 1 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "GPU 0: Test A100 (UUID: GPU-aa01)\n  MIG 1g.5gb      Device  0: (UUID: MIG-b1)\n  \
                        MIG 3g.20gb     Device  1: (UUID: MIG-GPU-aa01/2/0)\nGPU 1: Test T4 (UUID: GPU-aa02)\n";
    const XML: &str = r#"<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log>
  <gpu id="00000000:07:00.0">
    <mig_mode><current_mig>Enabled</current_mig></mig_mode>
    <mig_devices>
      <mig_device><index>1</index><fb_memory_usage><total>19968 MiB</total><used>37 MiB</used></fb_memory_usage></mig_device>
      <mig_device><index>0</index><fb_memory_usage><total>4864 MiB</total><used>N/A</used></fb_memory_usage></mig_device>
      <mig_device><index>9</index><fb_memory_usage><total>1 MiB</total></fb_memory_usage></mig_device>
    </mig_devices>
    <uuid>GPU-aa01</uuid>
  </gpu>
</nvidia_smi_log>"#;

    #[test]
    fn instances_are_named_and_their_memory_is_found() {
        let mut instances = list(LIST.as_bytes());
        add_memory(&mut instances, XML.as_bytes());
        let devices = &instances["GPU-aa01"];
        assert_eq!(instances.len(), 1);
        assert_eq!(
            (devices[0].profile.as_str(), devices[1].uuid.as_str()),
            ("1g.5gb", "MIG-GPU-aa01/2/0")
        );
        assert_eq!(devices[0].memory_total, Reading::Value(4864));
        assert_eq!(devices[0].memory_used, Reading::absent(Absence::NotAvailable));
        assert_eq!(devices[1].memory_used, Reading::Value(37));
    }

    #[test]
    fn a_cut_report_leaves_memory_absent() {
        let whole = list(LIST.as_bytes());
        for length in 0..XML.len() {
            let mut instances = whole.clone();
            add_memory(&mut instances, XML.as_bytes().get(..length).unwrap());
            assert_eq!(instances, whole, "{length}");
        }
    }
}
