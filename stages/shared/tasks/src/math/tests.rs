use super::equal;

/// Pairs of gold answer and answer.
const EQUAL: [(&str, &str); 100] = [
    // Numbers.
    ("\\frac32", "1.5"),
    ("1\\frac12", "\\frac32"),
    ("1 1/2", "\\frac{3}{2}"),
    ("137 \\frac{1}{2}", "137.5"),
    ("\\frac13", "0.333333"),
    ("\\frac13", "0.3333333333"),
    (".35625", "0.356250"),
    ("\\frac43", "4/3"),
    ("\\frac9{19}", "\\frac919"),
    ("\\frac 59", "\\dfrac{5}{9}"),
    ("\\frac{270}7\\text{ degrees}", "\\frac{270}{7}"),
    ("10!", "3628800"),
    ("2^{10}", "1024"),
    ("\\binom{5}{2}", "10"),
    ("1,234", "1234"),
    ("1{,}234", "1,\\!234"),
    ("11,\\! 111,\\! 111,\\! 100", "11111111100"),
    ("58,500", "58500"),
    ("-0", "0"),
    ("\u{2212}5", "-5"),
    ("10^{3}", "1000"),
    ("2\\times 3\\cdot 4", "24"),
    ("7 \\div 2", "3.5"),
    // Units, currency, percent, degrees.
    ("10", "10 cm"),
    ("10", "10\\text{ cm}^2"),
    ("10", "10 \\mbox{ square units}"),
    ("10", "10 dollars"),
    ("10", "\\$10"),
    ("10", "10 marbles left"),
    ("\\$32,\\!348", "32348"),
    ("864 \\mbox{ inches}^2", "864"),
    ("5.4 \\text{ cents}", "5.4"),
    ("50", "50\\%"),
    ("-50", "-50\\%"),
    ("90^\\circ", "90"),
    ("90^\\circ", "90\\text{ degrees}"),
    ("76^{\\circ}", "76°"),
    ("18", "\\approx 18"),
    ("18", "\\mathbf{18}"),
    ("18", "\\text{18}"),
    // Constants.
    ("3\\sqrt{13}", "\\sqrt{117}"),
    ("11\\sqrt2", "\\sqrt{242}"),
    ("\\frac{\\sqrt{3}}{3}", "\\frac{1}{\\sqrt{3}}"),
    ("\\sqrt{5+2\\sqrt6}", "\\sqrt2+\\sqrt3"),
    ("3\\sqrt{13}", "3*sqrt(13)"),
    ("\\sqrt{4}", "2"),
    ("\\sqrt[3]{-8}", "-2"),
    ("\\pi", "3.141593"),
    ("288 \\pi", "288π"),
    ("\\frac{20000}{\\pi}", "20000\\pi^{-1}"),
    ("-\\frac{\\pi}{6}", "-\\pi/6"),
    ("6 - 5i", "-5i+6"),
    ("(1+i)^2", "2i"),
    ("e^{i\\pi}", "-1"),
    ("\\log_2 8", "3"),
    ("\\log_28", "3"),
    ("\\ln e^2", "2"),
    ("\\sin^{-1}(1)", "\\frac{\\pi}{2}"),
    ("|{-5}|", "5"),
    ("\\lfloor 3.7 \\rfloor", "3"),
    // Formulas.
    ("2k+2", "2(k+1)"),
    ("(a+5)(b+2)", "ab+2a+5b+10"),
    ("x^3+3x-6", "x(x^2+3)-6"),
    ("\\frac{11+9a}{20}", "0.55+0.45a"),
    ("\\frac{x^2-1}{x-1}", "x+1"),
    ("\\cot x", "\\frac{\\cos x}{\\sin x}"),
    ("\\sin^2 x+\\cos^2 x+y", "1+y"),
    ("3R^2", "3 R^{2}"),
    ("2^x\\cdot 2^x", "4^x"),
    ("\\sqrt{a^2+b^2}", "(a^2+b^2)^{1/2}"),
    // Equations and inequalities.
    ("x=5", "5"),
    ("5", "x = 5"),
    ("y = 2x + 3", "2x+3"),
    ("y = 2x + 3", "2x - y + 3 = 0"),
    ("5x - 7y + 11z + 4 = 0", "-10x + 14y - 22z = 8"),
    ("18", "9\\times 2 = 18"),
    ("f(x) = x+1", "x + 1"),
    ("x \\ge 3", "3 \\le x"),
    ("2x < 4", "x < 2"),
    ("1<x<2", "(1,2)"),
    ("x > 5", "(5,\\infty)"),
    // Containers.
    ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3,\\pi/2)"),
    ("(1,2)", "1,2"),
    ("3, 5, 7", "7, 5, 3"),
    ("1,-2", "-2 \\text{ and } 1"),
    ("1,-2", "\\{-2,1\\}"),
    ("(100,200)", "(100, 200)"),
    ("1 \\pm \\sqrt{19}", "1+\\sqrt{19}, 1-\\sqrt{19}"),
    ("\\{1\\pm\\sqrt{5},-2\\}", "-2, 1-\\sqrt5, 1+\\sqrt5"),
    ("\\emptyset", "\\{\\}"),
    ("(-\\infty, 2) \\cup (3, \\infty)", "(3,\\infty)\\cup(-\\infty,2)"),
    ("x \\in [-2,7]", "[-2,7]"),
    ("\\begin{pmatrix} -1/3 \\\\ 2/3 \\end{pmatrix}", "\\begin{bmatrix}-\\frac13\\\\ \\frac23\\end{bmatrix}"),
    (
        "\\begin{pmatrix} -1 & 0 \\\\ 0 & -1 \\end{pmatrix}",
        "\\left[\\begin{array}{cc}-1&0\\\\0&-1\\end{array}\\right]",
    ),
    // Words and other bases.
    ("\\text{Evelyn}", "evelyn"),
    ("\\text{(C)}", "C"),
    ("\\text{(C)}", "\\textbf{(C)}"),
    ("52_8", "52_{8}"),
    ("52_8", "52"),
    ("B,C", "\\text{B,C}"),
];

const DIFFERENT: [(&str, &str); 49] = [
    ("18", "17"),
    ("18", "18.0009"),
    ("10001", "10002"),
    ("\\frac13", "0.33333"),
    ("\\frac13", "0.33"),
    ("\\pi", "3.14"),
    ("\\pi", "\\frac{22}{7}"),
    ("90^\\circ", "\\frac{\\pi}{2}"),
    ("0.5", "50\\%"),
    ("5", "5 million"),
    ("5", "5 dozen"),
    ("10", "10x"),
    ("1234", "1,23,4"),
    ("58,500", "58"),
    ("e^{-100}", "e^{-101}"),
    ("\\sqrt2", "1.41421"),
    ("(1,2)", "[1,2]"),
    ("(1,2)", "(1,2]"),
    ("(1,2)", "(2,1)"),
    ("(-\\infty, 0]", "[-\\infty, 0]"),
    ("(2,\\infty)", "(2,-\\infty)"),
    ("1,-2", "1"),
    ("1,-2", "1,-2,3"),
    ("1,2", "1,1"),
    ("1 \\pm \\sqrt{19}", "1+\\sqrt{19}"),
    ("(0,9) \\cup (9,36)", "(0,36)"),
    ("52_8", "42"),
    ("52_8", "52_9"),
    ("x", "X"),
    ("2x+3", "5"),
    ("p - q", "q - p"),
    ("x+1", "y+1"),
    ("2^x", "2^{x+1}"),
    ("\\sqrt{x^2+1}", "x+1"),
    ("\\sin x", "\\cos x"),
    ("x=5", "y=5"),
    ("y = 2x + 3", "y = 2x - 3"),
    ("x > 5", "x < 5"),
    ("x > 5", "x \\ge 5"),
    ("x \\ne 3", "3"),
    ("(5,\\infty)", "x > 4"),
    ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "(1,2)"),
    ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix} 1 & 2 \\end{pmatrix}"),
    ("\\text{even}", "odd"),
    ("\\text{(C)}", "D"),
    ("1", "\\frac{0}{0}"),
    ("387420489", "9^{9^{9}}"),
    ("10:30", "10"),
    ("5", ""),
];

#[test]
fn equal_answers_are_equal() {
    let wrong: Vec<_> = EQUAL.iter().filter(|(gold, answer)| !equal(gold, answer)).collect();
    assert!(wrong.is_empty(), "not found equal: {wrong:#?}");
}

#[test]
fn different_answers_are_different() {
    let wrong: Vec<_> = DIFFERENT.iter().filter(|(gold, answer)| equal(gold, answer)).collect();
    assert!(wrong.is_empty(), "found equal: {wrong:#?}");
}

#[test]
fn sizes_are_bounded() {
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(500), close.repeat(500));
    for text in [
        "9^{9^{9^{9}}}".to_owned(),
        "(2x)^{99999999999}".to_owned(),
        "e^{e^{e^{e^{e^{x}}}}}".to_owned(),
        "100000!".to_owned(),
        "1000!!!".to_owned(),
        "\\binom{99999}{50000}".to_owned(),
        "\\sin(10^{300})".to_owned(),
        "1".repeat(1400),
        deep("(", ")"),
        deep("\\sqrt{", "}"),
        deep("\\text{", "}"),
        deep("|", "|"),
        "\\frac".repeat(200),
        "\\sin x+".repeat(150) + "1",
        "x^{0.1}".repeat(200),
        "1,".repeat(290),
        "\\pm 1".repeat(200),
        "-".repeat(600),
        "\\frac{1}{x".repeat(100),
    ] {
        let start = std::time::Instant::now();
        assert!(!equal("17", &text), "{text}");
        equal("x+\\sin y", &text);
        equal(&text, &format!("{text}+0"));
        // Generous: unoptimised and on a busy machine. Release builds take a twentieth.
        assert!(start.elapsed().as_millis() < 3000, "{:?} for {text}", start.elapsed());
    }
}
