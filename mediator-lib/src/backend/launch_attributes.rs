//! Attributes of launches: which there are, and what a guest may say with them.

use cudarc::driver::sys::CUlaunchAttributeID_enum as Id;
use vgpu_protocol::Status;
use vgpu_protocol::calls::LaunchAttribute;

/// What a launch asks for beyond a hint, and the hints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// All blocks are to run at once, and may wait for each other.
    pub cooperative: bool,
    /// Blocks of a cluster; `[1; 3]` where there is none.
    pub cluster: Option<[u32; 3]>,
    /// The attributes that hold numbers only, to be passed on as they are.
    pub plain: Vec<(Id, [u64; 8])>,
}

/// Checks a launch's attributes. None of those that are passed on holds a handle or an address.
///
/// | attribute | is |
/// |---|---|
/// | ignore, access policy window, synchronization policy | dropped: hints, the window's with an address in it |
/// | cooperative, cluster dimension | kept, for the device to grant or refuse |
/// | cluster scheduling, preferred cluster dimension, programmatic stream serialization, priority, memory synchronization domains, shared memory carveout | passed on |
/// | programmatic event, launch completion event, device-updatable node | refused: they hold handles |
///
/// # Errors
/// `ERROR_NOT_SUPPORTED` for those that are refused, `ERROR_INVALID_VALUE` for an unknown one.
pub fn check(attributes: &[LaunchAttribute]) -> Result<Checked, Status> {
    let mut checked = Checked::default();
    for attribute in attributes {
        let value = attribute.value;
        let word = |i: usize| (value[i / 2] >> (32 * (i % 2))) as u32;
        let is = |id: Id| attribute.id == id as u32;
        let plain = [
            Id::CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE,
            Id::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            Id::CU_LAUNCH_ATTRIBUTE_PRIORITY,
            Id::CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP,
            Id::CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN,
            Id::CU_LAUNCH_ATTRIBUTE_PREFERRED_CLUSTER_DIMENSION,
            Id::CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT,
        ];
        if is(Id::CU_LAUNCH_ATTRIBUTE_COOPERATIVE) {
            checked.cooperative = word(0) != 0;
        } else if is(Id::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) {
            let cluster = [word(0), word(1), word(2)];
            if cluster.contains(&0) {
                return Err(Status::ERROR_INVALID_VALUE);
            }
            checked.cluster = Some(cluster);
        } else if let Some(id) = plain.into_iter().find(|id| is(*id)) {
            checked.plain.push((id, value));
        } else if is(Id::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT)
            || is(Id::CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT)
            || is(Id::CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE)
        {
            return Err(Status::ERROR_NOT_SUPPORTED);
        } else if !is(Id::CU_LAUNCH_ATTRIBUTE_IGNORE)
            && !is(Id::CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW)
            && !is(Id::CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY)
        {
            return Err(Status::ERROR_INVALID_VALUE);
        }
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(id: u32, value: [u64; 8]) -> Result<Checked, Status> {
        check(&[LaunchAttribute { id, value }])
    }

    #[test]
    fn what_holds_a_handle_or_an_address_is_never_passed_on() {
        let full = [u64::MAX; 8];
        // Ignore, access policy window, synchronization policy.
        for id in [0, 1, 3] {
            assert_eq!(one(id, full), Ok(Checked::default()), "{id}");
        }
        // Events, device-updatable nodes.
        for id in [7, 12, 13] {
            assert_eq!(one(id, full), Err(Status::ERROR_NOT_SUPPORTED), "{id}");
        }
        for id in [15, 16, 1000, u32::MAX] {
            assert_eq!(one(id, full), Err(Status::ERROR_INVALID_VALUE), "{id}");
        }
        for id in [5, 6, 8, 9, 10, 11, 14] {
            assert_eq!(one(id, full).map(|c| c.plain.len()), Ok(1), "{id}");
        }
    }

    #[test]
    fn what_the_device_must_grant_is_told() {
        assert_eq!(one(2, [1; 8]).map(|c| c.cooperative), Ok(true));
        assert_eq!(one(2, [0; 8]).map(|c| c.cooperative), Ok(false));
        let cluster = [2 | 3 << 32, 4, 0, 0, 0, 0, 0, 0];
        assert_eq!(one(4, cluster).map(|c| c.cluster), Ok(Some([2, 3, 4])));
        assert_eq!(
            one(4, [1; 8]),
            Err(Status::ERROR_INVALID_VALUE),
            "1 × 0 × 1"
        );
    }
}
