//! `darkbloom models`: the catalogue, and what of it is here.

use crate::{
    cli::{ModelsCommand, OutputArguments},
    failure::Failure,
    home::Home,
    models::{self, digest_of},
    report::CatalogueModel,
};
use indicatif::HumanBytes;
use owner::Purpose;
use std::process::ExitCode;
use swarm::{catalogue::Catalogue, entry::Entry, store::Store};

pub async fn run(home: &Home, command: ModelsCommand) -> Result<ExitCode, Failure> {
    match command {
        ModelsCommand::Ls(arguments) => list(home, &arguments)?,
        ModelsCommand::Pull { name } => {
            let model = {
                let disk_bytes_max = home.lend_settings(Purpose::Join)?.disk_bytes_max;
                models::pull(home, &name, disk_bytes_max).await?
            };
            let origin = model.origin.unwrap_or_else(|| "here already".to_owned());
            eprintln!("{} ({}), verified: {origin}", model.name, HumanBytes(model.bytes));
            println!("{}", model.path.display());
        }
        ModelsCommand::Path { name } => println!("{}", path(home, &name)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn list(home: &Home, arguments: &OutputArguments) -> Result<(), Failure> {
    let store = Store::open(home.models())?;
    let rows = Catalogue::built_in().entries().iter().map(|entry| row(&store, entry)).collect::<Result<Vec<_>, _>>()?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows).expect("rows are plain data"));
        return Ok(());
    }
    for row in rows {
        let here = if row.here { "here" } else { "" };
        let memory = HumanBytes(row.memory_bytes_min).to_string();
        println!(
            "{:<32} {:>11} {:>11} memory  {:<24} {here}",
            row.name,
            HumanBytes(row.bytes).to_string(),
            memory,
            row.licence
        );
    }
    Ok(())
}

fn row(store: &Store, entry: &Entry) -> Result<CatalogueModel, Failure> {
    let digest = digest_of(store, entry)?;
    Ok(CatalogueModel {
        name: entry.name.clone(),
        aliases: entry.aliases.clone(),
        description: entry.description.clone(),
        licence: entry.licence.id.clone(),
        bytes: entry.size.bytes(),
        memory_bytes_min: entry.memory_bytes_min,
        origins: entry.origins.iter().map(ToString::to_string).collect(),
        digest: digest.map(|digest| digest.to_string()),
        here: digest.is_some_and(|digest| store.contains(digest)),
    })
}

fn path(home: &Home, name: &str) -> Result<String, Failure> {
    let store = Store::open(home.models())?;
    for entry in Catalogue::built_in().resolve(name) {
        if let Some(digest) = digest_of(&store, entry)?
            && store.contains(digest)
        {
            return Ok(store.open_verified(digest)?.path.display().to_string());
        }
    }
    Err(Failure::new(format!("model `{name}` is not in this home"))
        .hint(format!("fetch it with `darkbloom models pull {name}`")))
}
