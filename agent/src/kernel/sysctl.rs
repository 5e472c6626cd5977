//! Kernel parameters of the node as a whole, and of its tunnel. Those of a pod's device are the CNI plugin's.

use std::{fs, path::Path};

use super::types::Error;

const V4: &str = "/proc/sys/net/ipv4/ip_forward";
const ALL_RP_FILTER: &str = "/proc/sys/net/ipv4/conf/all/rp_filter";
const V6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

/// Makes the node forward packets, IPv6 too where `v6`. A parameter that is right already is not written, so that a
/// read-only `/proc/sys` does where the host is set up.
///
/// # Errors
/// [`Error::Sysctl`].
pub fn enable_forwarding(v6: bool) -> Result<(), Error> {
    set(V4, "1")?;
    if v6 { set(V6, "1") } else { Ok(()) }
}

/// Lets a tunnel receive what the node would not send back through it: a remote node's own address is not behind the
/// tunnel, but its packets to our pods come out of it. Loose means that the source must be reachable somehow (RFC 3704,
/// section 2.4). The device forwards too, like every other.
///
/// # Errors
/// [`Error::Sysctl`].
pub fn prepare_tunnel(device: &str) -> Result<(), Error> {
    let device = Path::new("/proc/sys/net/ipv4/conf").join(device);
    set(device.join("forwarding"), "1")?;
    let filter = device.join("rp_filter");
    match set(&filter, "2") {
        // Where nothing can be written, what is there may do.
        Err(_) if !is_strict(&filter, Path::new(ALL_RP_FILTER)) => Ok(()),
        result => result,
    }
}

/// The kernel uses the greater of a device's value and the one for all; 1 is strict.
fn is_strict(device: &Path, all: &Path) -> bool {
    let value = |path| fs::read_to_string(path).ok()?.trim().parse::<u8>().ok();
    value(device).max(value(all)) == Some(1)
}

fn set(path: impl AsRef<Path>, value: &'static str) -> Result<(), Error> {
    let path = path.as_ref();
    let describe = |source| Error::Sysctl {
        path: path.to_owned(),
        value,
        source,
    };
    if fs::read_to_string(path).map_err(describe)?.trim() == value {
        return Ok(());
    }
    fs::write(path, value).map_err(describe)?;
    tracing::info!(path = %path.display(), value, "kernel parameter set");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_set_and_a_right_one_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ip_forward");
        fs::write(&path, "0\n").unwrap();
        set(&path, "1").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1");
        fs::write(&path, "1\n").unwrap();
        set(&path, "1").unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "1\n",
            "written although it was right"
        );
    }

    #[test]
    fn the_greater_of_two_filters_counts() {
        let directory = tempfile::tempdir().unwrap();
        let (device, all) = (directory.path().join("device"), directory.path().join("all"));
        let cases = [
            ("0", "0", false),
            ("0", "1", true),
            ("1", "0", true),
            ("2", "1", false),
            ("0", "2", false),
        ];
        for (of_device, of_all, strict) in cases {
            fs::write(&device, of_device).unwrap();
            fs::write(&all, of_all).unwrap();
            assert_eq!(is_strict(&device, &all), strict, "{of_device} and {of_all}");
        }
    }

    #[test]
    fn the_error_names_the_file_and_the_value() {
        let error = set("/proc/sys/net/none/ip_forward", "1").unwrap_err().to_string();
        assert!(
            error.starts_with("cannot set /proc/sys/net/none/ip_forward to 1: "),
            "{error}"
        );
    }
}
