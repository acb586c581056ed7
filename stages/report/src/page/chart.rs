//! Geometry of line charts and heat maps; the templates only put it into SVG.

use serde::Serialize;

use super::text::number;

const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 30.0;

/// A value over steps: its mean over runs, and how far they lie apart.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    pub(super) name: String,
    /// Place in the page's order of colours.
    pub(super) color: usize,
    /// Step, mean, least and greatest.
    pub(super) points: Vec<(f64, f64, f64, f64)>,
}

/// A line chart.
#[derive(Debug, Serialize)]
pub(super) struct Chart {
    title: String,
    width: f64,
    height: f64,
    x_ticks: Vec<Tick>,
    y_ticks: Vec<Tick>,
    lines: Vec<Line>,
    left: f64,
    right: f64,
    bottom: f64,
}

#[derive(Debug, Serialize)]
struct Tick {
    at: f64,
    label: String,
}

#[derive(Debug, Serialize)]
struct Line {
    name: String,
    color: usize,
    points: String,
    /// The area between the least and the greatest run.
    band: Option<String>,
    first: String,
    last: String,
}

impl Chart {
    /// Draws curves that share their axes; nothing where there is no point.
    pub(super) fn of(title: &str, curves: &[Curve]) -> Option<Self> {
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let bounds = |values: &mut dyn Iterator<Item = f64>| {
            values.fold(None, |bounds: Option<(f64, f64)>, value| {
                Some(bounds.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
            })
        };
        let (first, last) = bounds(&mut points().map(|point| point.0))?;
        let (low, high) = bounds(&mut points().flat_map(|point| [point.2, point.3]))?;
        let y_values = ticks(low, high);
        let (low, high) = (low.min(y_values[0]), high.max(y_values[y_values.len() - 1]));
        let place = |value: f64, (low, high): (f64, f64), (start, end): (f64, f64)| {
            let share = if high > low { (value - low) / (high - low) } else { 0.5 };
            tenth(start + share * (end - start))
        };
        let x = |step: f64| place(step, (first, last), (LEFT, WIDTH - RIGHT));
        let y = |value: f64| place(value, (low, high), (HEIGHT - BOTTOM, TOP));
        let lines = curves.iter().filter(|curve| !curve.points.is_empty()).map(|curve| {
            let points = &curve.points;
            let path = |points: &mut dyn Iterator<Item = (f64, f64)>| {
                points.map(|(step, value)| format!("{},{}", x(step), y(value))).collect::<Vec<_>>().join(" ")
            };
            let apart = points.iter().any(|point| y(point.2) != y(point.3));
            let band = || {
                let upper = points.iter().map(|point| (point.0, point.3));
                path(&mut upper.chain(points.iter().rev().map(|point| (point.0, point.2))))
            };
            Line {
                name: curve.name.clone(),
                color: curve.color,
                points: path(&mut points.iter().map(|point| (point.0, point.1))),
                band: apart.then(band),
                first: number(points[0].1),
                last: number(points[points.len() - 1].1),
            }
        });
        Some(Self {
            title: title.to_owned(),
            width: WIDTH,
            height: HEIGHT,
            x_ticks: ticks(first, last)
                .into_iter()
                .filter(|step| (first..=last).contains(step))
                .map(|step| Tick { at: x(step), label: number(step) })
                .collect(),
            y_ticks: y_values.iter().map(|value| Tick { at: y(*value), label: number(*value) }).collect(),
            lines: lines.collect(),
            left: LEFT,
            right: WIDTH - RIGHT,
            bottom: HEIGHT - BOTTOM,
        })
    }
}

/// Three to six round numbers that span a range.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    if high <= low {
        return vec![low];
    }
    let rough = (high - low) / 4.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].iter().map(|unit| unit * power).find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let (from, to) = ((low / step).floor() as i64, (high / step).ceil() as i64);
    // Rounded, because 3 * 0.1 has a tail.
    (from..=to).map(|at| (at as f64 * step / power * 100.0).round() / 100.0 * power).collect()
}

/// Rows of colours, one column a stretch of steps.
#[derive(Debug, Serialize)]
pub(super) struct Heat {
    title: String,
    width: f64,
    height: f64,
    rows: Vec<HeatRow>,
    columns: Vec<Tick>,
    low: String,
    high: String,
    /// Heading of the numbers below.
    heads: Vec<String>,
}

#[derive(Debug, Serialize)]
struct HeatRow {
    name: String,
    y: f64,
    middle: f64,
    cells: Vec<HeatCell>,
    /// Some of its values, as text.
    numbers: Vec<String>,
}

#[derive(Debug, Serialize)]
struct HeatCell {
    x: f64,
    width: f64,
    fill: String,
}

const ROW: f64 = 22.0;
const NAMES: f64 = 130.0;

impl Heat {
    /// Draws rows of values; columns have labels where there are any. `picked` are the columns whose numbers are shown.
    pub(super) fn of(
        title: &str,
        rows: &[(String, Vec<Option<f64>>)],
        labels: &[String],
        picked: &[usize],
    ) -> Option<Self> {
        let values = || rows.iter().flat_map(|(_, values)| values.iter().flatten().copied());
        let low = values().fold(f64::INFINITY, f64::min);
        let high = values().fold(f64::NEG_INFINITY, f64::max);
        let columns = rows.iter().map(|(_, values)| values.len()).max().filter(|count| *count > 0)?;
        if !low.is_finite() || !high.is_finite() {
            return None;
        }
        let width = (WIDTH - NAMES) / columns as f64;
        let x = |column: usize| tenth(NAMES + column as f64 * width);
        let cell = |(column, value): (usize, &Option<f64>)| {
            let share = if high > low { ((*value)? - low) / (high - low) } else { value.map(|_| 0.5)? };
            Some(HeatCell { x: x(column), width: tenth(x(column + 1) - x(column)), fill: color(share) })
        };
        let row = |(place, (name, values)): (usize, &(String, Vec<Option<f64>>))| {
            let shown = |column: &usize| match values.get(*column) {
                Some(Some(value)) => number(*value),
                Some(None) | None => "–".to_owned(),
            };
            HeatRow {
                name: name.clone(),
                y: place as f64 * ROW,
                middle: place as f64 * ROW + ROW / 2.0,
                cells: values.iter().enumerate().filter_map(cell).collect(),
                numbers: picked.iter().map(shown).collect(),
            }
        };
        let every = labels.len().div_ceil(6).max(1);
        let label = |(column, label): (usize, &String)| {
            let at = tenth(NAMES + (column as f64 + 0.5) * width);
            Tick { at, label: label.clone() }
        };
        Some(Self {
            title: title.to_owned(),
            width: WIDTH,
            height: rows.len() as f64 * ROW,
            rows: rows.iter().enumerate().map(row).collect(),
            columns: labels.iter().enumerate().step_by(every).map(label).collect(),
            low: number(low),
            high: number(high),
            heads: picked.iter().filter_map(|column| labels.get(*column).cloned()).collect(),
        })
    }
}

/// A color of the scale "cividis", which rises evenly in lightness for every eye: 0 is dark blue, 1 is yellow.
pub(super) fn color(share: f64) -> String {
    const SCALE: [[f64; 3]; 9] = [
        [0.0, 32.0, 77.0],
        [0.0, 51.0, 111.0],
        [57.0, 72.0, 107.0],
        [87.0, 93.0, 109.0],
        [112.0, 113.0, 115.0],
        [138.0, 134.0, 120.0],
        [166.0, 157.0, 117.0],
        [198.0, 182.0, 100.0],
        [255.0, 233.0, 69.0],
    ];
    let at = share.clamp(0.0, 1.0) * (SCALE.len() - 1) as f64;
    let below = (at.floor() as usize).min(SCALE.len() - 2);
    let part = at - below as f64;
    let mix = |channel: usize| SCALE[below][channel] * (1.0 - part) + SCALE[below + 1][channel] * part;
    format!("#{:02x}{:02x}{:02x}", mix(0).round() as u8, mix(1).round() as u8, mix(2).round() as u8)
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_span_the_range() {
        assert_eq!(ticks(0.0, 1.0), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(ticks(0.13, 0.38), [0.1, 0.2, 0.3, 0.4]);
        assert_eq!(ticks(1.0, 360.0), [0.0, 100.0, 200.0, 300.0, 400.0]);
        assert_eq!(ticks(5.0, 5.0), [5.0]);
        for (low, high) in [(-3.2, 17.0), (1e-7, 3e-7), (12345.0, 12346.0)] {
            let ticks = ticks(low, high);
            assert!((3..=7).contains(&ticks.len()), "{ticks:?}");
            assert!(ticks[0] <= low && ticks[ticks.len() - 1] >= high, "{ticks:?}");
        }
    }

    #[test]
    fn the_scale_rises_in_lightness() {
        let light = |share: f64| {
            let hex = color(share);
            let channel = |at: usize| f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap_or_default());
            0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
        };
        for step in 0..20 {
            assert!(light(f64::from(step) / 20.0) < light(f64::from(step + 1) / 20.0), "at {step}");
        }
    }

    #[test]
    fn equal_values_and_no_values_draw_too() {
        let curve = Curve { name: "a".into(), color: 0, points: vec![(1.0, 2.0, 2.0, 2.0)] };
        assert_eq!(Chart::of("t", &[curve]).map(|chart| chart.lines.len()), Some(1));
        assert!(Chart::of("t", &[]).is_none());
        assert!(Heat::of("t", &[("a".into(), vec![None])], &[], &[]).is_none());
        let heat = Heat::of("t", &[("a".into(), vec![Some(1.0), None])], &["0".into(), "1".into()], &[1]);
        assert_eq!(heat.map(|heat| heat.rows[0].numbers.clone()), Some(vec!["–".to_owned()]));
    }
}
