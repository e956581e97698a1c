//! System calls that the kernel refuses from here on, as a sandbox or an old kernel does. Linux
//! only.

use std::collections::BTreeMap;

use anyhow::Result;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// Has the kernel answer this thread's calls of this number with ENOSYS.
#[allow(clippy::useless_conversion, reason = "a long has 32 bits on some machines")]
pub(crate) fn refuse(call: libc::c_long) -> Result<()> {
    let filter = SeccompFilter::new(
        BTreeMap::from([(call.into(), Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(apply_filter(&BpfProgram::try_from(filter)?)?)
}
