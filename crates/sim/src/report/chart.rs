//! Charts as SVG, drawn from numbers: no script, no font, nothing from elsewhere.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 28.0;
const TOP: f64 = 10.0;
const RIGHT: f64 = 12.0;
/// Told apart in colour blindness too (Okabe and Ito, 2008).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// One line of a chart.
pub(super) struct Line {
    pub(super) name: String,
    /// x and y; gaps where there is no value.
    pub(super) points: Vec<(f64, Option<f64>)>,
}

/// One group of bars.
pub(super) struct Bars {
    pub(super) name: String,
    /// In the order of the names of the bars.
    pub(super) values: Vec<Option<f64>>,
}

/// Lines over minutes.
pub(super) fn lines(title: &str, unit: &str, lines: &[Line]) -> String {
    let x_max = lines.iter().flat_map(|line| &line.points).map(|(x, _)| *x).fold(0.0, f64::max);
    let y_max = lines.iter().flat_map(|line| &line.points).filter_map(|(_, y)| *y).fold(0.0, f64::max);
    let (x_step, y_step) = (step(x_max), step(y_max));
    let (x_max, y_max) = (x_max.max(x_step), (y_max / y_step).ceil().max(1.0) * y_step);
    let x = |value: f64| LEFT + value / x_max * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - value / y_max * (HEIGHT - BOTTOM - TOP);
    let mut svg = opened(title);
    grid(&mut svg, y_max, y_step, y);
    let mut at = 0.0;
    while at <= x_max + 1e-9 {
        text(&mut svg, x(at), HEIGHT - 8.0, "middle", &number(at));
        at += x_step;
    }
    for (index, line) in lines.iter().enumerate() {
        let mut path = String::new();
        let mut pen_down = false;
        for (at, value) in &line.points {
            let Some(value) = value else {
                pen_down = false;
                continue;
            };
            let command = if pen_down { 'L' } else { 'M' };
            write!(path, "{command}{:.1} {:.1}", x(*at), y(*value)).expect("strings take everything");
            pen_down = true;
        }
        let colour = COLOURS[index % COLOURS.len()];
        write!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>")
            .expect("strings take everything");
    }
    svg.push_str("</svg>");
    figure(title, &format!("{unit}, over minutes"), lines.iter().map(|line| line.name.as_str()), &svg)
}

/// Groups of bars.
pub(super) fn bars(title: &str, unit: &str, names: &[&str], groups: &[Bars]) -> String {
    let y_max = groups.iter().flat_map(|group| &group.values).filter_map(|value| *value).fold(0.0, f64::max);
    let y_step = step(y_max);
    let y_max = (y_max / y_step).ceil().max(1.0) * y_step;
    let y = |value: f64| HEIGHT - BOTTOM - value / y_max * (HEIGHT - BOTTOM - TOP);
    let mut svg = opened(title);
    grid(&mut svg, y_max, y_step, y);
    let room = (WIDTH - LEFT - RIGHT) / groups.len().max(1) as f64;
    let width = room * 0.8 / names.len().max(1) as f64;
    for (at, group) in groups.iter().enumerate() {
        let from = LEFT + room * (at as f64 + 0.1);
        for (bar, value) in group.values.iter().enumerate() {
            let left = from + width * bar as f64;
            match value {
                Some(value) => write!(
                    svg,
                    "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"/>",
                    y(*value),
                    width * 0.92,
                    HEIGHT - BOTTOM - y(*value),
                    COLOURS[bar % COLOURS.len()]
                )
                .expect("strings take everything"),
                None => text(&mut svg, left + width / 2.0, HEIGHT - BOTTOM - 4.0, "middle", "never"),
            }
        }
        text(&mut svg, LEFT + room * (at as f64 + 0.5), HEIGHT - 8.0, "middle", &group.name);
    }
    svg.push_str("</svg>");
    figure(title, unit, names.iter().copied(), &svg)
}

fn opened(title: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escaped(title))
}

fn grid(svg: &mut String, y_max: f64, y_step: f64, y: impl Fn(f64) -> f64) {
    let mut at = 0.0;
    while at <= y_max + 1e-9 {
        write!(svg, "<path d=\"M{LEFT} {0:.1}H{1}\" stroke=\"#ccc\" stroke-width=\"0.5\"/>", y(at), WIDTH - RIGHT)
            .expect("strings take everything");
        text(svg, LEFT - 6.0, y(at) + 4.0, "end", &number(at));
        at += y_step;
    }
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    write!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escaped(text))
        .expect("strings take everything");
}

fn figure<'a>(title: &str, unit: &str, names: impl Iterator<Item = &'a str>, svg: &str) -> String {
    let mut legend = String::new();
    for (index, name) in names.enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        write!(legend, "<span><i style=\"background:{colour}\"></i>{}</span>", escaped(name))
            .expect("strings take everything");
    }
    format!("<figure><figcaption><b>{}</b> ({}) {legend}</figcaption>{svg}</figure>\n", escaped(title), escaped(unit))
}

/// About five steps of 1, 2 or 5 times a power of ten.
fn step(max: f64) -> f64 {
    if max <= 0.0 {
        return 1.0;
    }
    let rough = max / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let times = [1.0, 2.0, 5.0, 10.0].into_iter().find(|times| rough <= times * power).unwrap_or(10.0);
    times * power
}

fn number(value: f64) -> String {
    if value == 0.0 || value >= 10.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// Text that cannot be markup.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::{Bars, Line, bars, escaped, lines, step};

    #[test]
    fn steps_are_round() {
        assert_eq!([0.0, 1.0, 40.0, 22_000.0].map(step), [1.0, 0.2, 10.0, 5_000.0]);
    }

    #[test]
    fn gaps_stay_gaps_and_text_stays_text() {
        let line = Line { name: "<a>".into(), points: vec![(0.0, Some(1.0)), (1.0, None), (2.0, Some(2.0))] };
        let svg = lines("t", "u", &[line]);
        assert!(svg.contains("<path d=\"M64.0 111.0M748.0 10.0\""), "two strokes: {svg}");
        assert!(svg.contains("&lt;a&gt;") && !svg.contains("<a>"));
        assert_eq!(escaped("\"&"), "&quot;&amp;");
    }

    #[test]
    fn what_was_never_completed_has_no_bar() {
        let group = |value| Bars { name: "g".into(), values: vec![value] };
        let svg = bars("t", "u", &["p99"], &[group(Some(3.0)), group(None)]);
        assert_eq!((svg.matches("<rect").count(), svg.matches("never").count()), (1, 1));
    }
}
