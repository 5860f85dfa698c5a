//! The time line of an incident as a picture, for receivers that show one.

use std::convert::Infallible;
use std::iter::repeat_n;

use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::iso_8859_1::{FONT_7X13, FONT_10X20};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor as _};
use embedded_graphics::prelude::Drawable as _;
use embedded_graphics::primitives::{Line, Primitive as _, PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Alignment, Text};
use sensor_core::incident::{Incident, Language, Severity};
use sensor_core::time::Timestamp;
use serde_json::Value;

use super::text;

/// Size of the picture, in pixels.
const SIZE: (u32, u32) = (800, 400);
/// Where the bars are: left, top, right, bottom.
const FRAME: (i32, i32, i32, i32) = (80, 72, 776, 336);
/// Longest title, in characters.
const TITLE: usize = 76;
/// A bar is at least so wide.
const NARROWEST: i32 = 4;

const PAPER: Rgb888 = Rgb888::new(0xff, 0xff, 0xff);
const INK: Rgb888 = Rgb888::new(0x24, 0x29, 0x2f);
const FAINT: Rgb888 = Rgb888::new(0xd0, 0xd7, 0xde);

/// A moment of the time line.
struct Moment {
    at: f64,
    severity: Severity,
    counts: [u64; 3],
}

/// A PNG of how an incident has grown: a bar from each moment to the next, as high as what grew most, in the colour of the
/// severity. Nothing for an incident without a time line. The same incident gives the same octets.
#[must_use]
pub fn timeline(incident: &Incident, language: Language) -> Option<Vec<u8>> {
    let moments: Vec<Moment> = incident.evidence.get("timeline")?.as_array()?.iter().filter_map(Moment::of).collect();
    let begin = moments.first()?.at;
    let end = incident.last_seen.epoch_seconds().max(moments.last()?.at).max(begin + 1.0);
    let what = (0..3).max_by_key(|&what| (highest(&moments, what), std::cmp::Reverse(what))).unwrap_or(0);
    let chart = Chart { begin, end, top: highest(&moments, what).max(1) };
    let mut canvas = Canvas::blank();
    chart.draw(&mut canvas, &moments, what);
    label(&mut canvas, incident, &chart, WORDS[what], language);
    canvas.png()
}

/// What is counted, as the axis says it.
const WORDS: [(&str, &str); 3] = [("attackers", "atacantes"), ("victims", "víctimas"), ("ports", "puertos")];

fn highest(moments: &[Moment], what: usize) -> u64 {
    moments.iter().map(|moment| moment.counts[what]).max().unwrap_or(0)
}

impl Moment {
    fn of(value: &Value) -> Option<Self> {
        let severity = value.get("severity")?.as_str()?;
        Some(Self {
            at: value.get("at")?.as_f64().filter(|at| (0.0..1e11).contains(at))?,
            severity: Severity::ALL.into_iter().find(|one| one.as_str() == severity)?,
            counts: WORDS.map(|(name, _)| value.get(name).and_then(Value::as_u64).unwrap_or(0)),
        })
    }
}

/// Where moments and counts are in the picture.
struct Chart {
    begin: f64,
    end: f64,
    top: u64,
}

impl Chart {
    fn x(&self, at: f64) -> i32 {
        let part = ((at - self.begin) / (self.end - self.begin)).clamp(0.0, 1.0);
        FRAME.0 + pixels(part * f64::from(FRAME.2 - FRAME.0))
    }

    fn y(&self, count: u64) -> i32 {
        FRAME.3 - pixels(count as f64 / self.top as f64 * f64::from(FRAME.3 - FRAME.1))
    }

    fn draw(&self, canvas: &mut Canvas, moments: &[Moment], what: usize) {
        for count in [self.top, self.top / 2] {
            canvas.line((FRAME.0, self.y(count)), (FRAME.2, self.y(count)), FAINT);
        }
        for (at, moment) in moments.iter().enumerate() {
            let next = moments.get(at + 1).map_or(self.end, |next| next.at);
            let left = self.x(moment.at).min(FRAME.2 - NARROWEST);
            let right = self.x(next).max(left + NARROWEST) - 1;
            let top = self.y(moment.counts[what]).min(FRAME.3 - 2);
            canvas.fill((left, top), (right, FRAME.3), colour(moment.severity));
        }
        canvas.line((FRAME.0, FRAME.3), (FRAME.2, FRAME.3), INK);
        canvas.line((FRAME.0, FRAME.1), (FRAME.0, FRAME.3), INK);
    }
}

fn label(canvas: &mut Canvas, incident: &Incident, chart: &Chart, what: (&str, &str), language: Language) {
    let title = format!(
        "{} · {} · {}",
        text::title(incident.class, language),
        text::severity(incident.severity, language),
        incident.id
    );
    canvas.text(&title, (24, 34), Alignment::Left, &FONT_10X20);
    let (name, time) = match language {
        Language::En => (what.0, "time (UTC)"),
        Language::Es => (what.1, "hora (UTC)"),
    };
    canvas.text(name, (FRAME.0 - 8, FRAME.1 - 12), Alignment::Left, &FONT_7X13);
    for count in [chart.top, chart.top / 2, 0] {
        canvas.text(&count.to_string(), (FRAME.0 - 8, chart.y(count) + 4), Alignment::Right, &FONT_7X13);
    }
    let middle = f64::midpoint(chart.begin, chart.end);
    for (at, x, alignment) in [
        (chart.begin, FRAME.0, Alignment::Left),
        (middle, i32::midpoint(FRAME.0, FRAME.2), Alignment::Center),
        (chart.end, FRAME.2, Alignment::Right),
    ] {
        canvas.text(&clock(at), (x, FRAME.3 + 20), alignment, &FONT_7X13);
    }
    canvas.text(time, (i32::midpoint(FRAME.0, FRAME.2), FRAME.3 + 46), Alignment::Center, &FONT_7X13);
}

/// `2025-06-15 15:06:40`.
fn clock(at: f64) -> String {
    let since = std::time::Duration::try_from_secs_f64(at).unwrap_or_default();
    super::view::moment(Timestamp::EPOCH + since)
}

const fn colour(severity: Severity) -> Rgb888 {
    match severity {
        Severity::Low => Rgb888::new(0x38, 0x8b, 0xfd),
        Severity::Medium => Rgb888::new(0xd2, 0x99, 0x22),
        Severity::High => Rgb888::new(0xdb, 0x6d, 0x28),
        Severity::Critical => Rgb888::new(0xda, 0x36, 0x33),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "at most the width of the picture")]
fn pixels(length: f64) -> i32 {
    length.round() as i32
}

/// Three octets a pixel, by rows.
struct Canvas {
    octets: Vec<u8>,
}

impl Canvas {
    fn blank() -> Self {
        let pixels = SIZE.0 as usize * SIZE.1 as usize;
        Self { octets: repeat_n([PAPER.r(), PAPER.g(), PAPER.b()], pixels).flatten().collect() }
    }

    fn fill(&mut self, from: (i32, i32), to: (i32, i32), colour: Rgb888) {
        let area = Rectangle::with_corners(from.into(), to.into());
        let Ok(()) = area.into_styled(PrimitiveStyle::with_fill(colour)).draw(self);
    }

    fn line(&mut self, from: (i32, i32), to: (i32, i32), colour: Rgb888) {
        let line = Line::new(from.into(), to.into());
        let Ok(()) = line.into_styled(PrimitiveStyle::with_stroke(colour, 1)).draw(self);
    }

    /// One line; the fonts have the letters of Western Europe.
    fn text(&mut self, text: &str, at: (i32, i32), alignment: Alignment, font: &MonoFont<'_>) {
        let latin = |c: char| if matches!(c, ' '..='~' | '\u{a0}'..='ÿ') { c } else { '?' };
        let text: String = text::clip(&text::plain(text).chars().map(latin).collect::<String>(), TITLE);
        let style = MonoTextStyle::new(font, INK);
        let Ok(_) = Text::with_alignment(&text, Point::from(at), style, alignment).draw(self);
    }

    fn png(&self) -> Option<Vec<u8>> {
        let mut png = Vec::new();
        let mut encoder = png::Encoder::new(&mut png, SIZE.0, SIZE.1);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().ok()?;
        writer.write_image_data(&self.octets).ok()?;
        writer.finish().ok()?;
        Some(png)
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(SIZE.0, SIZE.1)
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(point, colour) in pixels {
            let (Ok(x), Ok(y)) = (u32::try_from(point.x), u32::try_from(point.y)) else { continue };
            if x < SIZE.0 && y < SIZE.1 {
                let at = (y as usize * SIZE.0 as usize + x as usize) * 3;
                self.octets[at..at + 3].copy_from_slice(&[colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::notify::testing::incident;

    fn moment(at: f64, severity: &str, ports: u64) -> Value {
        json!({"at": at, "severity": severity, "attackers": 1, "victims": 1, "ports": ports})
    }

    fn decoded(png: &[u8]) -> (u32, u32) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut pixels).unwrap();
        (frame.width, frame.height)
    }

    #[test]
    fn the_same_incident_gives_the_same_picture() {
        let mut scan = incident("0123456789abcdef");
        assert!(timeline(&scan, Language::En).is_none(), "there is no time line");
        let severities = ["low", "medium", "high", "critical"];
        let moments: Vec<_> = (0..8_u32)
            .map(|n| {
                moment(1_750_000_000.0 + f64::from(n * n), severities[n as usize / 2], u64::from(100 * n * n + 40))
            })
            .collect();
        scan.evidence.insert("timeline".to_owned(), moments.into());
        let english = timeline(&scan, Language::En).unwrap();
        assert_eq!(decoded(&english), SIZE);
        assert_eq!(timeline(&scan, Language::En).unwrap(), english);
        assert_ne!(timeline(&scan, Language::Es).unwrap(), english);
        if let Some(folder) = std::env::var_os("LEUKO_PICTURES") {
            let folder = std::path::Path::new(&folder);
            std::fs::write(folder.join("timeline-en.png"), &english).unwrap();
            std::fs::write(folder.join("timeline-es.png"), timeline(&scan, Language::Es).unwrap()).unwrap();
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn any_time_line_gives_a_picture_or_none(
            id in ".{0,100}",
            moments in prop::collection::vec((any::<f64>(), any::<u64>()), 0..20),
        ) {
            let mut any = incident(&id);
            let moments: Vec<_> = moments.into_iter().map(|(at, ports)| moment(at, "high", ports)).collect();
            any.evidence.insert("timeline".to_owned(), moments.into());
            if let Some(png) = timeline(&any, Language::Es) {
                prop_assert_eq!(decoded(&png), SIZE);
            }
        }
    }
}
