//! Under which rules tasks are served.

use super::access::Access;
use crate::{
    cli::{AccessArguments, DayLimit, LocalityChoice, MeasurementArguments, PolicyArguments, Retention, TierChoice},
    failure::Failure,
    home::Home,
    report::PolicyReport,
};
use client::Model;
use protocol::{
    grant::{Locality, Tier},
    ids::ModelDigest,
    pool::{Label, Listing, PoolPolicy},
};
use registry::{Fact, keys};
use std::{fs, path::Path, process::ExitCode};

/// What stands for no restriction.
const ALL: &str = "all";

pub async fn policy(home: &Home, arguments: &PolicyArguments) -> Result<ExitCode, Failure> {
    let access = Access::open(home, &arguments.access).await?;
    let before = access.need(&keys::policy()).await?;
    let models = if arguments.models.is_some() { access.client.models().await? } else { Vec::new() };
    let after = changed(&before, arguments, &models)?;
    if after != before {
        access.say(vec![Fact::PolicySet(after.clone())]).await?;
    }
    let report = PolicyReport::from(&after);
    let lines = report.lines();
    access.finish(&report, &lines).await
}

/// The policy with the fields that are given.
fn changed(before: &PoolPolicy, arguments: &PolicyArguments, known: &[Model]) -> Result<PoolPolicy, Failure> {
    let mut policy = before.clone();
    if let Some(TierChoice::SelfSigned) = arguments.min_tier {
        policy.tier_min = Tier::SelfSigned;
    }
    if let Some(locality) = arguments.locality {
        policy.locality_max = match locality {
            LocalityChoice::Device => Locality::Device,
            LocalityChoice::Pool => Locality::Pool,
            LocalityChoice::Network => Locality::Network,
        };
    }
    if let Some(names) = &arguments.models {
        policy.models = match names.as_slice() {
            [all] if all == ALL => None,
            names => {
                let digests: Result<Vec<_>, _> = names.iter().map(|name| digest(name, known)).collect();
                Some(ascending(digests?))
            }
        };
    }
    if let Some(names) = &arguments.regions {
        policy.regions = match names.as_slice() {
            [all] if all == ALL => Vec::new(),
            names => {
                let regions: Result<Vec<_>, _> = names.iter().map(|name| Label::new(name.as_str())).collect();
                ascending(regions.map_err(Failure::new)?)
            }
        };
    }
    if let Some(retention) = arguments.retention {
        policy.retains_nothing = retention == Retention::None;
    }
    policy.measured_only = arguments.measured_only.unwrap_or(policy.measured_only);
    policy.needs_approval = arguments.approval.unwrap_or(policy.needs_approval);
    policy.starter_micro = arguments.starter.map_or(policy.starter_micro, |amount| amount.0);
    policy.issue_micro_max = arguments.issue.map_or(policy.issue_micro_max, |amount| amount.0);
    if let Some(DayLimit(day)) = arguments.day {
        policy.day_micro_max = day.map(|amount| amount.0);
    }
    if policy.is_valid() { Ok(policy) } else { Err(Failure::new("a policy names at most 64 models and 16 regions")) }
}

fn ascending<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort();
    values.dedup();
    values
}

fn digest(name: &str, known: &[Model]) -> Result<ModelDigest, Failure> {
    let is_named = |model: &&Model| {
        std::iter::once(&model.name).chain(&model.aliases).any(|other| other.eq_ignore_ascii_case(name))
    };
    match known.iter().find(is_named) {
        Some(model) => Ok(model.digest),
        // One that no machine has brought yet.
        None => name.parse().map_err(|_| {
            let names: Vec<&str> = known.iter().map(|model| model.name.as_str()).collect();
            Failure::new(format!("the pool has no model `{name}`; it has: {}", names.join(", ")))
                .hint("a model that it does not have yet is named by its digest")
        }),
    }
}

pub async fn measure(home: &Home, arguments: &MeasurementArguments, is_allowed: bool) -> Result<ExitCode, Failure> {
    let measurement = measured(&arguments.measurement)?;
    let access = Access::open(home, &arguments.access).await?;
    let hash = blake3::Hash::from(measurement).to_hex();
    let (done, fact) = match is_allowed {
        true => (format!("program {hash} is allowed"), Fact::MeasurementAllowed { measurement }),
        false => (format!("program {hash} is allowed no more"), Fact::MeasurementRevoked { measurement }),
    };
    access.change(done, vec![fact]).await
}

pub async fn measurements(home: &Home, arguments: &AccessArguments) -> Result<ExitCode, Failure> {
    let access = Access::open(home, arguments).await?;
    let listed = access.client.list(Listing::Measurements).await?;
    let wanted: Vec<_> = listed.iter().map(keys::measurement).collect();
    let allowed = access.client.read_all(&wanted).await?;
    let proven = listed.into_iter().zip(allowed).filter(|(_, mark)| mark.is_some());
    let hashes: Vec<String> = proven.map(|(hash, _)| blake3::Hash::from(hash).to_hex().to_string()).collect();
    access.finish(&hashes, &hashes).await
}

/// The hash that was given, or that of the file.
fn measured(text: &str) -> Result<[u8; 32], Failure> {
    if let Ok(hash) = blake3::Hash::from_hex(text) {
        return Ok(*hash.as_bytes());
    }
    let path = Path::new(text);
    let bytes = fs::read(path).map_err(|error| {
        Failure::new(format!("{text}: {error}"))
            .hint("give the worker's program, or its BLAKE3 in 64 hexadecimal digits")
    })?;
    Ok(*blake3::hash(&bytes).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn after(before: &PoolPolicy, words: &[&str]) -> Result<PoolPolicy, String> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            arguments: PolicyArguments,
        }
        let line = Line::try_parse_from(std::iter::once(&"policy").chain(words)).map_err(|error| error.to_string())?;
        let model = Model {
            name: "Tiny".to_owned(),
            aliases: vec!["small".to_owned()],
            digest: ModelDigest([3; 32]),
            context_tokens: 1,
            default: true,
            ready_nodes: 1,
            created_unix_s: 1,
        };
        changed(before, &line.arguments, &[model]).map_err(|failure| failure.to_string())
    }

    #[test]
    fn only_what_is_given_changes() {
        let default = PoolPolicy::default();
        assert_eq!(after(&default, &[]), Ok(default.clone()));
        let words = ["--models", "SMALL", "--regions", "north,east,north", "--retention", "none", "--approval"];
        let policy = after(&default, &words).unwrap();
        let regions = ["east", "north"].map(|name| Label::new(name).unwrap()).to_vec();
        let models = Some(vec![ModelDigest([3; 32])]);
        let expected =
            PoolPolicy { models, regions, retains_nothing: true, needs_approval: true, ..PoolPolicy::default() };
        assert_eq!(policy, expected);
        let words = ["--models", "all", "--regions=all", "--approval=false", "--retention", "members"];
        assert_eq!(after(&policy, &words), Ok(default.clone()));
        let limited = after(&default, &["--day", "7", "--starter", "0.5", "--issue", "12"]).unwrap();
        let micro = (limited.starter_micro, limited.issue_micro_max, limited.day_micro_max);
        assert_eq!(micro, (500_000, 12_000_000, Some(7_000_000)));
        let back = ["--day", "unlimited", "--starter", "0", "--issue", "0"];
        assert_eq!(after(&limited, &back), Ok(default.clone()));
        assert!(after(&default, &["--models", "large"]).unwrap_err().contains("it has: Tiny"));
        assert!(after(&default, &["--regions", "North Pole"]).is_err());
    }
}
