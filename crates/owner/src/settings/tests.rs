use super::*;

const LENDING: &str = include_str!("../../../../docs/LENDING.md");

/// The blocks of TOML in the handbook.
fn samples() -> Vec<&'static str> {
    let blocks = LENDING.split("```toml\n").skip(1);
    blocks.map(|block| block.split("```").next().expect("a split has a first part")).collect()
}

#[test]
fn every_sample_of_the_handbook_is_taken() {
    let samples = samples();
    assert!(samples.len() >= 3);
    for sample in samples {
        from_toml(sample, Purpose::Join).unwrap_or_else(|error| panic!("{error}\n{sample}"));
    }
}

#[test]
fn the_handbook_has_every_field_with_its_default() {
    // The first sample is the list of defaults.
    let written: toml::Table = toml::from_str(samples()[0]).unwrap();
    let defaults = toml::Table::try_from(LendSettings::default()).unwrap();
    for (field, default) in &defaults {
        assert_eq!(written["lend"].get(field), Some(default), "{field}");
    }
    for optional in ["threads", "memory_bytes_max"] {
        assert!(LENDING.contains(&format!("`{optional}`")), "{optional}");
    }
    assert_eq!(from_toml(samples()[0], Purpose::Join).unwrap(), LendSettings::default());
}

#[test]
fn answers_are_audited_unless_the_asker_says_no() {
    assert_eq!(client_from_toml("").unwrap(), ClientSettings::default());
    assert_eq!(client_from_toml(samples()[0]).unwrap(), ClientSettings::default());
    let text = "[client]\naudit = false\n";
    assert_eq!(client_from_toml(text).unwrap(), ClientSettings { audit: false, ..ClientSettings::default() });
    assert_eq!(from_toml(text, Purpose::Join).unwrap(), LendSettings::default());
    assert!(client_from_toml("[client]\naudits = false\n").is_err());
    let text = "[client]\nlocality = \"network\"\n";
    let locality = protocol::grant::Locality::Network;
    assert_eq!(client_from_toml(text).unwrap(), ClientSettings { locality, ..ClientSettings::default() });
    assert!(LENDING.contains("`audit`") && LENDING.contains("`locality`"));
}

#[test]
fn a_ceiling_bounds_what_it_names() {
    assert_eq!(ClientSettings::default().price_max(), None);
    let settings = client_from_toml("[client]\nprice_max_output_micro = 5\n").unwrap();
    let max = Price { prompt_micro: PRICE_MICRO_MAX, output_micro: 5 };
    assert_eq!(settings.price_max(), Some(max));
    for field in ["price_max_prompt_micro", "price_max_output_micro"] {
        assert!(LENDING.contains(&format!("`{field}`")), "{field}");
    }
}

#[test]
fn an_absent_file_is_a_cautious_owner() {
    assert_eq!(from_toml("", Purpose::Join).unwrap(), LendSettings::default());
    assert_eq!(from_toml("[lend]\n", Purpose::Join).unwrap(), LendSettings::default());
}

#[test]
fn up_serves_its_owner_unless_told_otherwise() {
    let up = from_toml("", Purpose::Up).unwrap();
    assert_eq!((up.presence, up.battery, up.other_load_percent_max), (Presence::Ignore, Battery::Ignore, 100));
    assert_eq!((up.thermal, up.memory_pressure), (Thermal::Serious, Memory::Warning));
    let told = from_toml("[lend]\npresence = \"yield\"\nbattery = \"never\"\n", Purpose::Up).unwrap();
    assert_eq!((told.presence, told.battery, told.other_load_percent_max), (Presence::Yield, Battery::Never, 100));
}

#[test]
fn what_cannot_be_meant_is_named_with_its_field() {
    for (text, named) in [
        ("[lend]\nidle = 3", "idle"),
        ("[lent]\nidle_s = 3", "lent"),
        ("[lend]\nidle_s = 0", "idle_s"),
        ("[lend]\nidle_s = -1", "idle_s"),
        ("[lend]\nbattery = { percent_min = 101 }", "battery"),
        ("[lend]\nbattery = \"always\"", "battery"),
        ("[lend]\npresence = { files = \"x\" }", "presence"),
        ("[lend]\ngpu_share_percent = 0", "gpu_share_percent"),
        ("[lend]\nthreads = 0", "threads"),
        ("[lend]\nmemory_bytes_max = 0", "memory_bytes_max"),
        ("[lend]\nother_load_percent_max = 101", "other_load_percent_max"),
        ("[lend]\nexclusive_programs = [\"/usr/bin/game\"]", "exclusive_programs"),
        ("[lend.schedule]\nmonday = []", "monday"),
        ("[lend.schedule]\nmon = [\"25:00-26:00\"]", "mon"),
    ] {
        let error = from_toml(text, Purpose::Join).expect_err(text);
        assert!(error.to_string().contains(named), "{text}: {error}");
        assert!(error.remedy().contains("LENDING.md"));
    }
}
