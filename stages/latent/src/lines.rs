//! Small line charts side by side as SVG: measures over layers or training steps, a line a model.
//!
//! Self-contained as [`crate::figure`]; models differ in colour and in marker.

use std::fmt::Write;

use crate::figure::{escaped, group_start, line, marker, stroke};

const COLUMNS: usize = 2;
/// A panel's width and height with its labels, and what it leaves around its plot: left, top, right, bottom.
const PANEL: (f64, f64) = (430.0, 230.0);
const ROOM: (f64, f64, f64, f64) = (56.0, 34.0, 14.0, 30.0);
const TOP: f64 = 76.0;
const LEGEND_STEP: f64 = 24.0;
const WIDTH: f64 = PANEL.0 * COLUMNS as f64;

/// A measure over places: layers, or steps.
pub(crate) struct Panel {
    /// What is measured.
    pub(crate) title: String,
    /// By model and place.
    pub(crate) values: Vec<Vec<Option<f64>>>,
    /// The interval around each value, by model and place; none for a measure without.
    pub(crate) bands: Vec<Vec<[f64; 2]>>,
}

/// Charts with one legend. All text is plain: it is escaped here.
pub(crate) struct Lines<'a> {
    /// The first line.
    pub(crate) title: &'a str,
    /// The line below it.
    pub(crate) subtitle: &'a str,
    /// Names of the models, in the order of the values.
    pub(crate) models: &'a [String],
    /// Names of the places, evenly spaced from left to right; an empty one is not written.
    pub(crate) places: &'a [String],
    /// The charts.
    pub(crate) panels: &'a [Panel],
}

impl Lines<'_> {
    /// The figure as a complete SVG document.
    pub(crate) fn svg(&self) -> String {
        let (title, subtitle) = (escaped(self.title, 90), escaped(self.subtitle, 130));
        let legend = TOP + PANEL.1 * self.panels.len().div_ceil(COLUMNS) as f64 + 16.0;
        let height = legend + LEGEND_STEP * self.models.len().div_ceil(COLUMNS) as f64 + 12.0;
        let mut svg = format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" font-family="system-ui, sans-serif" fill="#222">
<title>{title}</title>
<desc>{subtitle}</desc>
<rect width="{WIDTH}" height="{height}" rx="8" fill="#fafafa"/>
<text x="24" y="36" font-size="20" font-weight="600">{title}</text>
<text x="24" y="60" font-size="14" fill="#555">{subtitle}</text>
"##
        );
        for (place, panel) in self.panels.iter().enumerate() {
            let corner = [PANEL.0 * (place % COLUMNS) as f64, TOP + PANEL.1 * (place / COLUMNS) as f64];
            panel.draw(&mut svg, self.places, corner);
        }
        for (model, name) in self.models.iter().enumerate() {
            let (x, y) =
                (24.0 + PANEL.0 * (model % COLUMNS) as f64, legend + LEGEND_STEP * (model / COLUMNS) as f64);
            let name = escaped(name, 50);
            svg.push_str(&group_start(model));
            line(&mut svg, &format!(r#"<path d="M{} {y}{}"/></g>"#, x + 8.0, marker(model)));
            line(
                &mut svg,
                &format!(r#"<text x="{}" y="{}" font-size="14">{name}</text>"#, x + 24.0, y + 5.0),
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

impl Panel {
    fn draw(&self, svg: &mut String, names: &[String], [left, top]: [f64; 2]) {
        let (x, y) = (left + ROOM.0, top + ROOM.1);
        let (width, height) = (PANEL.0 - ROOM.0 - ROOM.2, PANEL.1 - ROOM.1 - ROOM.3);
        let title = escaped(&self.title, 60);
        line(svg, &format!(r#"<text x="{x}" y="{}" font-size="14">{title}</text>"#, y - 10.0));
        line(
            svg,
            &format!(
                r##"<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="#fff" stroke="#ccc"/>"##
            ),
        );
        let (low, high) = self.range();
        let last = names.len().saturating_sub(1).max(1);
        let place = |place: usize, value: f64| {
            let (across, up) = (place as f64 / last as f64, (value - low) / (high - low));
            (x + 10.0 + across * (width - 20.0), y + height - 8.0 - up * (height - 16.0))
        };
        for value in [low, high] {
            let (_, at) = place(0, value);
            line(
                svg,
                &format!(
                    r##"<text x="{}" y="{:.1}" font-size="12" fill="#555" text-anchor="end">{value:.2}</text>"##,
                    x - 6.0,
                    at + 4.0
                ),
            );
        }
        for (index, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            let (at, _) = place(index, low);
            let anchor = match index {
                0 => "start",
                index if index == last => "end",
                _ => "middle",
            };
            let name = escaped(name, 20);
            let y = y + height + 16.0;
            line(
                svg,
                &format!(
                    r##"<text x="{at:.1}" y="{y}" font-size="12" fill="#555" text-anchor="{anchor}">{name}</text>"##
                ),
            );
        }
        for (model, band) in self.bands.iter().enumerate() {
            let edge = |side: usize| band.iter().map(move |ends| ends[side]).enumerate();
            let around: Vec<String> = edge(1)
                .chain(edge(0).rev())
                .map(|(index, value)| place(index, value))
                .map(|(x, y)| format!("{x:.1} {y:.1}"))
                .collect();
            let (path, colour) = (around.join("L"), stroke(model));
            line(svg, &format!(r#"<path d="M{path}z" fill="{colour}" fill-opacity="0.12"/>"#));
        }
        for (model, values) in self.values.iter().enumerate() {
            let known = values.iter().enumerate().filter_map(|(index, value)| Some((index, (*value)?)));
            let places: Vec<(f64, f64)> = known.map(|(index, value)| place(index, value)).collect();
            let Some(((x, y), rest)) = places.split_first() else { continue };
            let mut path = format!("M{x:.1} {y:.1}");
            for (x, y) in rest {
                write!(path, "L{x:.1} {y:.1}").expect("writing to a string cannot fail");
            }
            line(
                svg,
                &format!(r#"<path d="{path}" fill="none" stroke="{}" stroke-width="1.5"/>"#, stroke(model)),
            );
            svg.push_str(&group_start(model));
            for (x, y) in &places {
                line(svg, &format!(r#"<path d="M{x:.1} {y:.1}{}"/>"#, marker(model)));
            }
            line(svg, "</g>");
        }
    }

    /// From the lowest value to the highest, never equal.
    fn range(&self) -> (f64, f64) {
        let (low, high) = self
            .values
            .iter()
            .flatten()
            .flatten()
            .chain(self.bands.iter().flatten().flatten())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(*value), high.max(*value))
            });
        match high - low {
            extent if extent > 0.0 => (low, high),
            _ if low.is_finite() => (low - 0.5, low + 0.5),
            _ => (0.0, 1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::tests::tags;

    #[test]
    fn charts_are_well_formed_whatever_the_text_and_however_many_values() {
        let hostile = "</text><script>alert('1')</script>".to_owned();
        let panel = |title: &str, values, bands| Panel { title: title.to_owned(), values, bands };
        let two = vec![vec![Some(0.1), Some(0.9)], vec![None, Some(0.5)]];
        let panels = [
            panel(&hostile, two, vec![vec![[0.0, 0.2], [0.8, 1.0]]]),
            panel("flat", vec![vec![Some(2.0)], vec![Some(2.0)]], Vec::new()),
            panel("empty", vec![vec![None], Vec::new()], Vec::new()),
        ];
        let (models, places) = ([hostile.clone(), "b".into()], [hostile.clone(), String::new()]);
        let lines =
            Lines { title: &hostile, subtitle: "s", models: &models, places: &places, panels: &panels };
        let svg = lines.svg();
        let tags = tags(&svg);
        assert!(!tags.iter().any(|tag| tag == "script"), "{tags:?}");
        // Two legend entries; a band; 2 + 1 and 1 + 1 values, each model's with a line.
        assert_eq!(tags.iter().filter(|tag| *tag == "path").count(), 2 + 1 + 3 + 2 + 2 + 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn a_range_is_never_empty() {
        let range = |values| Panel { title: String::new(), values: vec![values], bands: Vec::new() }.range();
        assert_eq!(range(vec![Some(1.0), Some(3.0)]), (1.0, 3.0));
        assert_eq!(range(vec![Some(1.0)]), (0.5, 1.5));
        assert_eq!(range(vec![None]), (0.0, 1.0));
    }
}
