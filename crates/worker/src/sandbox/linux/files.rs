//! Landlock: no path can be opened, made, removed or executed; the one exception is reading the model's inode.

use super::super::{Layer, LayerState, SandboxError};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, PathBeneath, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use protocol::ipc::MODEL_FD;
use std::os::fd::BorrowedFd;

/// Everything that the library knows; the kernel's share of it is enforced and reported.
const WANTED: ABI = ABI::V10;
/// Reading, writing, making and executing files (Linux 5.13). Without it there is no sandbox.
const REQUIRED: ABI = ABI::V1;

const REMEDY: &str = "a worker needs Linux 5.13 or later with `landlock` in its `lsm=` list";

pub(super) fn deny() -> Result<Layer, SandboxError> {
    let missing = |why: String| SandboxError::Unavailable { layer: "Landlock", why, remedy: REMEDY };
    let status = restrict().map_err(|error| missing(error.to_string()))?;
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            kernel_abi.unwrap_or(effective_abi as i32).to_string()
        }
        LandlockStatus::NotEnabled => return Err(missing("switched off at boot".to_owned())),
        _ => return Err(missing("not in this kernel".to_owned())),
    };
    let (state, rest) = match status.ruleset {
        RulesetStatus::FullyEnforced => (LayerState::Enforced, ""),
        RulesetStatus::PartiallyEnforced => (LayerState::Partial, "; what it cannot deny, seccomp does"),
        RulesetStatus::NotEnforced => return Err(missing("not enforced".to_owned())),
    };
    let detail = format!("version {abi}: no path, no port, no signal or socket beyond itself{rest}");
    Ok(Layer { name: "landlock".to_owned(), state, detail })
}

/// The model's descriptor, which `confine` has checked.
fn model() -> BorrowedFd<'static> {
    // SAFETY: the node daemon opened it, it was seen to be open, and nothing in the worker closes it.
    unsafe { BorrowedFd::borrow_raw(MODEL_FD) }
}

fn restrict() -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(REQUIRED))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(AccessNet::from_all(WANTED))?
        .scope(Scope::from_all(WANTED))?
        .create()?
        .set_compatibility(CompatLevel::HardRequirement)
        .add_rule(PathBeneath::new(model(), AccessFs::ReadFile))?
        .restrict_self()
}
