//! `darkbloom schema`: the JSON schemas of every `--json` output, generated from the types.

use crate::{cli::SchemaArguments, failure::Failure, report};
use schemars::{Schema, schema_for};
use std::process::ExitCode;

pub fn run(arguments: &SchemaArguments) -> Result<ExitCode, Failure> {
    let fail = |error| Failure::new(format!("cannot write to {}: {error}", arguments.dir.display()));
    std::fs::create_dir_all(&arguments.dir).map_err(fail)?;
    let schemas: [(&str, Schema); 15] = [
        ("status", schema_for!(report::Status)),
        ("doctor", schema_for!(report::Doctor)),
        ("run", schema_for!(report::Answer)),
        ("credits-balance", schema_for!(report::credits::Balances)),
        ("credits-history", schema_for!(Vec<report::credits::MovementReport>)),
        ("credits-statement", schema_for!(Vec<report::credits::StatementLine>)),
        ("sim", schema_for!(sim::report::Report)),
        ("pool-show", schema_for!(report::PoolReport)),
        ("pool-policy", schema_for!(report::PolicyReport)),
        ("pool-members", schema_for!(report::PoolMembersReport)),
        ("pool-invite", schema_for!(report::InviteReport)),
        ("pool-invites", schema_for!(Vec<report::InviteReport>)),
        ("pool-measurements", schema_for!(Vec<String>)),
        ("pool-change", schema_for!(report::ChangeReport)),
        ("models-ls", schema_for!(Vec<report::CatalogueModel>)),
    ];
    for (name, schema) in schemas {
        let text = serde_json::to_string_pretty(&schema).expect("a schema is plain data") + "\n";
        std::fs::write(arguments.dir.join(format!("{name}.schema.json")), text).map_err(fail)?;
    }
    Ok(ExitCode::SUCCESS)
}
