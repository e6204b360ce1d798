//! Work on SIMD lanes gives the same result for every width.
#![allow(clippy::unwrap_used)]

use catprune_core::text::characters::Scripts;
use catprune_core::text::lanes::Width;
use catprune_core::text::normal_form::{Form, Normaliser};
use catprune_core::text::side::Side;

/// Texts with lengths around those of a register and a block, of characters that the masks distinguish.
fn texts() -> Vec<String> {
    const PIECES: [&str; 24] = [
        "a", "Z", "word", " ", "  ", "\t", "\u{b}", "9", "0", "/", ":", "@", "[", "`", "{", "%s", "&amp;",
        "<b>", "\u{7f}", "\u{1}", "é", "語", "\u{a0}", "🎈",
    ];
    let mut state = 7_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut texts: Vec<String> =
        (0..140).map(|length| "ab cD7 ".chars().cycle().take(length).collect()).collect();
    for round in 0..4_000 {
        let mut text = String::new();
        let (end, kinds) = (next(200), if round % 2 == 0 { 8 } else { PIECES.len() });
        while text.len() < end {
            text.push_str(PIECES[next(kinds)]);
        }
        texts.push(text);
    }
    texts
}

#[test]
fn measures_do_not_depend_on_the_width() {
    let side = |lanes| Side::new(Scripts::new(&[]).unwrap(), lanes);
    let (mut narrow, mut widest) = (side(Width::Sixteen), side(Width::widest()));
    for text in texts() {
        for side in [&mut narrow, &mut widest] {
            side.measure(&text);
        }
        assert_eq!(narrow.measures, widest.measures, "{text:?}");
        let count = |is: fn(&char) -> bool| text.chars().filter(is).count() as u32;
        let measured = [narrow.measures.characters, narrow.measures.letters, narrow.measures.visible];
        let expected = [count(|_| true), count(|c| c.is_alphabetic()), count(|c| !c.is_whitespace())];
        assert_eq!(measured, expected, "{text:?}");
        assert_eq!((narrow.classes, narrow.markup), (widest.classes, widest.markup), "{text:?}");
        assert_eq!(narrow.words.bounds, widest.words.bounds, "{text:?}");
    }
}

#[test]
fn normal_forms_do_not_depend_on_the_width() {
    let (mut narrow_buffer, mut widest_buffer) = (Vec::new(), Vec::new());
    for number in 1..32 {
        let is = |bit: u32| number >> bit & 1 == 1;
        let form = Form { nfkc: is(0), case: is(1), white_space: is(2), punctuation: is(3), digits: is(4) };
        let (narrow, widest) = (Normaliser::on(Width::Sixteen, form), Normaliser::new(form));
        for text in texts() {
            let (narrow_form, widest_form) =
                (narrow.normalise(&text, &mut narrow_buffer), widest.normalise(&text, &mut widest_buffer));
            assert_eq!(narrow_form, widest_form, "{text:?}");
        }
    }
}
