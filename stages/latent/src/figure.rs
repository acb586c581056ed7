//! A scatter plot as SVG, and the looks that all figures share.
//!
//! Self-contained: no style sheet, script, font, id or reference, so figures can stand side by side in one HTML page.
//! It brings its own light ground and reads the same on a dark page.

use std::fmt::Write;

const WIDTH: f64 = 860.0;
/// More where the legend needs it.
const HEIGHT: f64 = 640.0;
/// The plot area: left, top, side. Both axes have one scale, so it is a square.
const PLOT: (f64, f64, f64) = (24.0, 76.0, 500.0);
const LEGEND_LEFT: f64 = 552.0;
const LEGEND_STEP: f64 = 26.0;

/// Okabe and Ito's palette, which people with any common colour blindness can tell apart.
const COLOURS: [&str; 8] =
    ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#333333"];

/// Marker outlines around (0, 0), as relative paths: circle, square, triangles, diamond, cross, plus and star.
const MARKERS: [&str; 8] = [
    "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "m-3.6-3.6h7.2v7.2h-7.2z",
    "m0-4.8l4.4 7.6h-8.8z",
    "m0-5l4.4 5l-4.4 5l-4.4-5z",
    "m0 4.8l4.4-7.6h-8.8z",
    "m-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    "m0-5.2l1.4 3.3l3.6.3l-2.7 2.4l.8 3.5l-3.1-1.9l-3.1 1.9l.8-3.5l-2.7-2.4l3.6-.3z",
    "m-4.2-2.4l1.8-1.8l2.4 2.4l2.4-2.4l1.8 1.8l-2.4 2.4l2.4 2.4l-1.8 1.8l-2.4-2.4l-2.4 2.4l-1.8-1.8l2.4-2.4z",
];

/// A point of a [`Scatter`].
pub(crate) struct Mark<'a> {
    /// Position on the right and upward axes.
    pub(crate) at: [f64; 2],
    /// An index into the groups.
    pub(crate) group: usize,
    /// Shown when the pointer rests on it.
    pub(crate) about: &'a str,
}

/// What a figure shows. All text is plain: it is escaped here.
pub(crate) struct Scatter<'a> {
    /// The first line.
    pub(crate) title: &'a str,
    /// The line below it.
    pub(crate) subtitle: &'a str,
    /// Lines below the plot.
    pub(crate) notes: &'a [String],
    /// Names of the groups, in the order of the legend.
    pub(crate) groups: &'a [String],
    /// The points.
    pub(crate) marks: &'a [Mark<'a>],
}

impl Scatter<'_> {
    /// The figure as a complete SVG document.
    pub(crate) fn svg(&self) -> String {
        let (left, top, side) = PLOT;
        let (title, subtitle) = (escaped(self.title, 90), escaped(self.subtitle, 120));
        let height = HEIGHT.max(top + LEGEND_STEP * (self.groups.len() + 1) as f64);
        let mut svg = format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" font-family="system-ui, sans-serif" fill="#222">
<title>{title}</title>
<desc>{subtitle}</desc>
<rect width="{WIDTH}" height="{height}" rx="8" fill="#fafafa"/>
<text x="{left}" y="36" font-size="20" font-weight="600">{title}</text>
<text x="{left}" y="60" font-size="14" fill="#555">{subtitle}</text>
<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="#fff" stroke="#ccc"/>
"##
        );
        let place = self.placement();
        for (group, name) in self.groups.iter().enumerate() {
            let marks = self.marks.iter().filter(|mark| mark.group == group);
            let count = marks.clone().count();
            svg.push_str(&group_start(group));
            for mark in marks {
                let [x, y] = place(mark.at);
                let about = escaped(mark.about, 200);
                line(
                    &mut svg,
                    &format!(r#"<path d="M{x:.1} {y:.1}{}"><title>{about}</title></path>"#, marker(group)),
                );
            }
            let y = top + 12.0 + LEGEND_STEP * group as f64;
            line(&mut svg, &format!(r#"<path d="M{} {y}{}"/></g>"#, LEGEND_LEFT + 8.0, marker(group)));
            let (x, y, name) = (LEGEND_LEFT + 24.0, y + 5.0, escaped(name, 32));
            line(
                &mut svg,
                &format!(
                    r##"<text x="{x}" y="{y}" font-size="14">{name} <tspan fill="#777">{count}</tspan></text>"##
                ),
            );
        }
        for (index, note) in self.notes.iter().enumerate() {
            let (y, note) = (top + side + 20.0 + 16.0 * index as f64, escaped(note, 150));
            line(
                &mut svg,
                &format!(r##"<text x="{left}" y="{y}" font-size="12" fill="#555">{note}</text>"##),
            );
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// Where a point lies on the page: all fit, centred, at one scale for both axes.
    fn placement(&self) -> impl Fn([f64; 2]) -> [f64; 2] {
        let range = |axis: usize| {
            self.marks
                .iter()
                .map(|mark| mark.at[axis])
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), at| (low.min(at), high.max(at)))
        };
        let (across, up) = (range(0), range(1));
        let extent = (across.1 - across.0).max(up.1 - up.0);
        let (left, top, side) = PLOT;
        let scale = if extent > 0.0 { (side - 28.0) / extent } else { 0.0 };
        let middle = |(low, high): (f64, f64)| f64::midpoint(low, high);
        move |[x, y]| {
            [left + side / 2.0 + (x - middle(across)) * scale, top + side / 2.0 - (y - middle(up)) * scale]
        }
    }
}

/// Opens the element that gives a group's markers their look. Colours repeat after eight groups, but then with other markers.
pub(crate) fn group_start(group: usize) -> String {
    let colour = stroke(group);
    format!(
        "<g fill=\"{colour}\" fill-opacity=\"0.85\" stroke=\"#222\" stroke-width=\"0.5\" stroke-opacity=\"0.6\">\n"
    )
}

/// A group's colour.
pub(crate) fn stroke(group: usize) -> &'static str {
    COLOURS[group % COLOURS.len()]
}

/// A group's marker around the current point.
pub(crate) fn marker(group: usize) -> &'static str {
    MARKERS[(group + group / COLOURS.len()) % MARKERS.len()]
}

/// Adds a line of text to a document.
pub(crate) fn line(svg: &mut String, text: &str) {
    writeln!(svg, "{text}").expect("writing to a string cannot fail");
}

/// Text for an SVG element, cut to `most` characters.
pub(crate) fn escaped(text: &str, most: usize) -> String {
    let mut cut: String = text.chars().take(most).collect();
    if text.chars().count() > most {
        cut.pop();
        cut.push('…');
    }
    cut.chars()
        .map(|character| match character {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            // XML allows no control characters, however they are written.
            character if character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}') => {
                " ".to_owned()
            }
            character => character.to_string(),
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Tags in order, self-closing ones as start and end. Panics where the document is not well-formed.
    pub(crate) fn tags(svg: &str) -> Vec<String> {
        let (mut open, mut seen) = (Vec::new(), Vec::new());
        let mut rest = svg;
        while let Some(start) = rest.find('<') {
            let text = &rest[..start];
            assert!(!text.contains('>'), "a stray `>` in {text:?}");
            for piece in text.split('&').skip(1) {
                assert!(
                    ["amp;", "lt;", "gt;", "quot;"].iter().any(|name| piece.starts_with(name)),
                    "{text:?}"
                );
            }
            let end = start + rest[start..].find('>').expect("a tag ends");
            let tag = &rest[start + 1..end];
            assert_eq!(tag.matches('"').count() % 2, 0, "quotes do not match in {tag:?}");
            let name: String = tag.chars().take_while(|c| c.is_ascii_alphabetic()).collect();
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name));
            } else {
                seen.push(name.clone());
                if !tag.ends_with('/') {
                    open.push(name);
                }
            }
            rest = &rest[end + 1..];
        }
        assert_eq!(rest, "\n");
        assert!(open.is_empty(), "not closed: {open:?}");
        seen
    }

    #[test]
    fn hostile_text_stays_text() {
        let hostile = "</text><script>alert('1')</script> & \"x\" \u{0}\u{1b}";
        let groups = [hostile.to_owned(), "b".to_owned()];
        let marks = [
            Mark { at: [0.0, 1.0], group: 0, about: hostile },
            Mark { at: [5.0, -1.0], group: 1, about: "q" },
        ];
        let svg = Scatter {
            title: hostile,
            subtitle: hostile,
            notes: &[hostile.to_owned()],
            groups: &groups,
            marks: &marks,
        }
        .svg();
        let tags = tags(&svg);
        let allowed = BTreeSet::from(["svg", "title", "desc", "rect", "text", "tspan", "g", "path"]);
        assert!(tags.iter().all(|tag| allowed.contains(tag.as_str())), "{tags:?}");
        assert!(!svg.chars().any(|character| character.is_control() && character != '\n'));
        assert_eq!(svg.matches("http").count(), 1, "only the namespace is an address");
        assert_eq!(tags.iter().filter(|tag| *tag == "path").count(), 4, "two points and two legend entries");
    }

    #[test]
    fn points_keep_their_proportions_inside_the_plot() {
        let corner = |at| Mark { at, group: 0, about: "" };
        let marks = [corner([-10.0, 0.0]), corner([30.0, 20.0])];
        let scatter = Scatter { title: "", subtitle: "", notes: &[], groups: &[], marks: &marks };
        let place = scatter.placement();
        let (left, top, side) = PLOT;
        let ([x1, y1], [x2, y2]) = (place([-10.0, 0.0]), place([30.0, 20.0]));
        assert!(x1 > left && x2 < left + side && y2 > top && y1 < top + side);
        assert!((x2 - x1 - 2.0 * (y1 - y2)).abs() < 1e-9, "40 across is twice 20 up");
        let one = [corner([3.0, 3.0])];
        let scatter = Scatter { marks: &one, ..scatter };
        assert_eq!(scatter.placement()([3.0, 3.0]), [left + side / 2.0, top + side / 2.0]);
    }

    #[test]
    fn sixty_four_groups_look_different() {
        let looks: BTreeSet<String> =
            (0..64).map(|group| format!("{}{}", group_start(group), marker(group))).collect();
        assert_eq!(looks.len(), 64);
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(escaped("abcdef", 4), "abc…");
        assert_eq!(escaped("<<<<", 4), "&lt;&lt;&lt;&lt;");
    }
}
