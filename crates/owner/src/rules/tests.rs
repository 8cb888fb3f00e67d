use super::*;
use jiff::{Timestamp, tz::TimeZone};
use proptest::prelude::*;

const NOW: u64 = 1_800_000_000_000;

fn at(unix_ms: u64) -> Zoned {
    Timestamp::from_millisecond(i64::try_from(unix_ms).unwrap()).unwrap().to_zoned(TimeZone::UTC)
}

fn calm() -> Readings {
    Readings {
        last_input: Reading::Known(LastInput::Never),
        power: Reading::Known(Power::Mains),
        thermal: Reading::Known(Thermal::Nominal),
        memory: Reading::Known(Memory::Normal),
        other_load_percent: Reading::Known(0),
        programs: Reading::Known(Vec::new()),
    }
}

fn judge(settings: &LendSettings, readings: &Readings) -> Verdict {
    verdict(settings, readings, &mut History::default(), &at(NOW))
}

#[test]
fn an_idle_machine_on_the_mains_is_lent() {
    assert_eq!(judge(&LendSettings::default(), &calm()), Verdict::default());
}

#[test]
fn presence_says_when_it_lifts() {
    let settings = LendSettings { idle_s: 60, ..LendSettings::default() };
    let readings = Readings { last_input: Reading::Known(LastInput::At(NOW - 10_000)), ..calm() };
    let hold = judge(&settings, &readings).hold.unwrap();
    assert_eq!(hold, Hold::Owner { rule: Rule::Presence.public().to_owned(), lifts_unix_ms: Some(NOW + 50_000) });
    let later = verdict(&settings, &readings, &mut History::default(), &at(NOW + 50_000));
    assert_eq!(later.hold, None, "it lifts when it said so");
    let ahead = Readings { last_input: Reading::Known(LastInput::At(NOW + 1_000_000)), ..calm() };
    let Some(Hold::Owner { lifts_unix_ms, .. }) = judge(&settings, &ahead).hold else { panic!() };
    assert_eq!(lifts_unix_ms, Some(NOW + 60_000), "an input in the future counts as one of now");
}

#[test]
fn a_rule_lifts_only_after_its_calm() {
    let (settings, mut history) = (LendSettings::default(), History::default());
    let hot = Readings { thermal: Reading::Known(Thermal::Critical), ..calm() };
    assert!(verdict(&settings, &hot, &mut history, &at(NOW)).hold.is_some());
    let lifts_unix_ms = NOW + Rule::Thermal.calm_ms();
    let gone = verdict(&settings, &calm(), &mut history, &at(NOW + 1_000));
    assert_eq!(gone.broken[0].lifts_unix_ms, Some(lifts_unix_ms));
    assert!(verdict(&settings, &calm(), &mut history, &at(lifts_unix_ms - 1)).hold.is_some());
    assert!(verdict(&settings, &calm(), &mut history, &at(lifts_unix_ms)).hold.is_none());
}

#[test]
fn a_charge_at_the_border_does_not_flap() {
    let settings = LendSettings { battery: Battery::PercentMin(50), ..LendSettings::default() };
    let with = |percent| Readings { power: Reading::Known(Power::Battery { percent: Some(percent) }), ..calm() };
    let mut history = History::default();
    let mut lent =
        |percent, s: u64| verdict(&settings, &with(percent), &mut history, &at(NOW + s * 1_000)).hold.is_none();
    assert_eq!(
        [lent(50, 0), lent(49, 1), lent(50, 2), lent(54, 3), lent(55, 4), lent(54, 5)],
        [true, false, false, false, true, true]
    );
}

#[test]
fn the_rule_that_lifts_last_is_named_and_the_pool_learns_no_more() {
    let settings = LendSettings { exclusive_programs: vec!["chess".to_owned()], ..LendSettings::default() };
    let readings = Readings {
        last_input: Reading::Known(LastInput::At(NOW)),
        programs: Reading::Known(vec!["chess".to_owned()]),
        ..calm()
    };
    let verdict = judge(&settings, &readings);
    assert_eq!(verdict.broken.iter().map(|b| b.rule).collect::<Vec<_>>(), [Rule::ExclusivePrograms, Rule::Presence]);
    assert!(verdict.broken[0].found.contains("chess"));
    assert!(!format!("{:?}", verdict.hold).contains("chess"));
}

#[test]
fn a_missing_sensor_is_named_and_holds_nothing_back() {
    let missing = || "no such thing".to_owned();
    let readings = Readings { thermal: Reading::Missing { why: missing() }, ..calm() };
    let verdict = judge(&LendSettings::default(), &readings);
    assert_eq!((verdict.hold, verdict.missing), (None, vec![MissingSensor { field: "thermal", why: missing() }]));
    assert!(judge(&LendSettings::always(), &readings).missing.is_empty(), "what is not asked for is not missed");
    let unreadable = Reading::Known(LastInput::Unreadable { why: missing() });
    assert!(judge(&LendSettings::default(), &Readings { last_input: unreadable, ..calm() }).hold.is_some());
}

fn any_settings() -> impl Strategy<Value = LendSettings> {
    let presence = prop_oneof![Just(Presence::Yield), Just(Presence::Ignore)];
    let battery = prop_oneof![Just(Battery::Never), Just(Battery::Ignore), (0u8..=100).prop_map(Battery::PercentMin)];
    let thermal = prop_oneof![
        Just(settings::Thermal::Fair),
        Just(settings::Thermal::Serious),
        Just(settings::Thermal::Critical),
        Just(settings::Thermal::Ignore)
    ];
    let memory =
        prop_oneof![Just(settings::Memory::Warning), Just(settings::Memory::Critical), Just(settings::Memory::Ignore)];
    let windows = proptest::collection::vec((0u16..24, 0u16..24).prop_filter("no window", |(a, b)| a != b), 0..3);
    (presence, 1u32..1_000, battery, thermal, memory, 0u8..=100, windows).prop_map(
        |(presence, idle_s, battery, thermal, memory_pressure, other_load_percent_max, windows)| {
            let fri = windows.iter().map(|(a, b)| format!("{a:02}:00-{b:02}:00").parse().unwrap()).collect();
            let schedule = settings::Schedule { fri, ..settings::Schedule::default() };
            LendSettings {
                presence,
                idle_s,
                battery,
                thermal,
                memory_pressure,
                other_load_percent_max,
                schedule,
                ..LendSettings::default()
            }
        },
    )
}

fn reading<T: std::fmt::Debug>(known: impl Strategy<Value = T>) -> impl Strategy<Value = Reading<T>> {
    (0u8..8, known).prop_map(|(kind, known)| match kind {
        0 => Reading::Missing { why: "gone".to_owned() },
        _ => Reading::Known(known),
    })
}

fn any_readings() -> impl Strategy<Value = Readings> {
    let last_input = prop_oneof![Just(LastInput::Never), (0u64..2_000_000).prop_map(|ago| LastInput::At(NOW - ago))];
    let power =
        prop_oneof![Just(Power::Mains), proptest::option::of(0u8..=100).prop_map(|percent| Power::Battery { percent })];
    let thermal =
        prop_oneof![Just(Thermal::Nominal), Just(Thermal::Fair), Just(Thermal::Serious), Just(Thermal::Critical)];
    let memory = prop_oneof![Just(Memory::Normal), Just(Memory::Warning), Just(Memory::Critical)];
    let programs = prop_oneof![Just(Vec::new()), Just(vec!["game".to_owned()])];
    (reading(last_input), reading(power), reading(thermal), reading(memory), reading(0u8..=100), reading(programs))
        .prop_map(|(last_input, power, thermal, memory, other_load_percent, programs)| Readings {
            last_input,
            power,
            thermal,
            memory,
            other_load_percent,
            programs,
        })
}

proptest! {
    #[test]
    fn held_back_exactly_where_a_rule_is_named(settings in any_settings(), readings in any_readings()) {
        let verdict = judge(&settings, &readings);
        prop_assert_eq!(verdict.hold.is_some(), !verdict.broken.is_empty());
        for broken in &verdict.broken {
            prop_assert!(!broken.found.is_empty());
            prop_assert!(broken.lifts_unix_ms.is_none_or(|lifts| lifts > NOW));
        }
        let by_hand = (settings.presence != Presence::Ignore
            && matches!(readings.last_input, Reading::Known(LastInput::At(at)) if at + u64::from(settings.idle_s) * 1_000 > NOW))
            || matches!((settings.battery, &readings.power), (Battery::Never, Reading::Known(Power::Battery { .. })))
            || matches!(&readings.programs, Reading::Known(running) if !running.is_empty())
            || matches!(readings.other_load_percent, Reading::Known(load) if load > settings.other_load_percent_max);
        prop_assert!(!by_hand || verdict.hold.is_some(), "lent while a rule is broken");
    }

    #[test]
    fn what_gets_better_never_takes_the_machine_back(settings in any_settings(), readings in any_readings()) {
        let lent = judge(&settings, &readings).hold.is_none();
        let calmer = [
            Readings { last_input: Reading::Known(LastInput::Never), ..readings.clone() },
            Readings { power: Reading::Known(Power::Mains), ..readings.clone() },
            Readings { thermal: Reading::Known(Thermal::Nominal), ..readings.clone() },
            Readings { memory: Reading::Known(Memory::Normal), ..readings.clone() },
            Readings { other_load_percent: Reading::Known(0), ..readings.clone() },
            Readings { programs: Reading::Known(Vec::new()), ..readings.clone() },
        ];
        for calmer in calmer {
            prop_assert!(!lent || judge(&settings, &calmer).hold.is_none());
        }
    }

    #[test]
    fn the_past_only_ever_holds_back(settings in any_settings(), before in any_readings(), now in any_readings()) {
        let mut history = History::default();
        verdict(&settings, &before, &mut history, &at(NOW - 500));
        let with_past = verdict(&settings, &now, &mut history, &at(NOW));
        prop_assert!(judge(&settings, &now).hold.is_none() || with_past.hold.is_some());
    }
}
