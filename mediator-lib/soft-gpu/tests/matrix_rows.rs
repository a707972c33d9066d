//! `ldmatrix`, `stmatrix`, `movmatrix`.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use common::fragments::*;
use common::{Arg, devices};

#[test]
fn ldmatrix_stmatrix_and_movmatrix() {
    // Input register 0: byte offsets of the rows; then a tile is filled with the number of each
    // 16-bit element.
    for (n, count) in [(1usize, "x1"), (2, "x2"), (4, "x4")] {
        for trans in ["", ".trans"] {
            for space in ["", ".shared"] {
                let base = if space.is_empty() {
                    "mov.u64 %off, tile; cvta.shared.u64 %off, %off; cvt.u64.u32 %in, %a0; add.s64 %off, %off, %in;"
                } else {
                    "mov.u64 %off, tile; cvt.u64.u32 %in, %a0; add.s64 %off, %off, %in;"
                };
                let fill = "mov.u32 %x0, 0;\nF: mad.lo.u32 %x1, %x0, 32, %l; shl.b32 %x2, %x1, 2;\n\
                     shl.b32 %x3, %x1, 1; add.u32 %x4, %x3, 1; shl.b32 %x4, %x4, 16; or.b32 %x3, %x3, %x4;\n\
                     mov.u32 %x5, tile; add.u32 %x5, %x5, %x2; st.shared.b32 [%x5], %x3;\n\
                     add.u32 %x0, %x0, 1; setp.lt.u32 %p0, %x0, 8; @%p0 bra F; bar.sync 0;\n";
                let code = format!(
                    "{fill}{base}\nldmatrix.sync.aligned.m8n8.{count}{trans}{space}.b16 {}, [%off+16];",
                    list("d", n)
                );
                let mut r = Random(2);
                let rows: Vec<u32> = (0..32).map(|_| (r.next() % 60) * 16).collect();
                let got = run32(&kernel(&code, [1, 0, 0, n], false), &rows, n);
                for lane in 0..32 {
                    for m in 0..n {
                        let at = |row: usize, col: usize| (rows[8 * m + row] + 16) / 2 + col as u32;
                        let (g, t) = (lane / 4, lane % 4);
                        let want = if trans.is_empty() {
                            at(g, 2 * t) | (at(g, 2 * t + 1) << 16)
                        } else {
                            at(2 * t, g) | (at(2 * t + 1, g) << 16)
                        };
                        assert_eq!(
                            got[m * 32 + lane],
                            want,
                            "{count}{trans}{space} lane {lane}"
                        );
                    }
                }
            }
        }
    }
    // Stored and loaded again, transposed on one way: the same as movmatrix.
    let base = "mov.u32 %x0, tile; shl.b32 %x1, %l, 4; add.u32 %x0, %x0, %x1;";
    for (store, load) in [(".trans", ""), ("", ".trans")] {
        let code = format!(
            "{base}\nstmatrix.sync.aligned.m8n8.x4{store}.shared.b16 [%x0], {};\nbar.sync 0;\n\
             ldmatrix.sync.aligned.m8n8.x4{load}.shared.b16 {};",
            list("a", 4),
            format_args!("{}, [%x0]", list("d", 4))
        );
        let moved: String = (0..4)
            .map(|r| format!("movmatrix.sync.aligned.m8n8.trans.b16 %d{r}, %a{r};\n"))
            .collect();
        let mut r = Random(8);
        let input: Vec<u32> = (0..128).map(|_| r.next()).collect();
        let got = run32(&kernel(&code, [4, 0, 0, 4], false), &input, 4);
        assert_eq!(got, run32(&kernel(&moved, [4, 0, 0, 4], false), &input, 4));
        for (lane, &got) in got.iter().enumerate().take(32) {
            let (g, t) = (lane / 4, lane % 4);
            let half =
                |row: usize, col: usize| (input[4 * row + col / 2] >> (16 * (col % 2))) & 0xffff;
            assert_eq!(got, half(2 * t, g) | (half(2 * t + 1, g) << 16));
        }
    }
}

#[test]
fn rows_of_ldmatrix_are_checked() {
    let code = "shl.b32 %x0, %l, 4; add.u32 %x0, %x0, %a0;\nldmatrix.sync.aligned.m8n8.x4.shared.b16 {%d0,%d1,%d2,%d3}, [%x0];";
    for (offset, error) in [(8u32, "misaligned"), (8192 - 16 * 31, "illegal"), (0, "")] {
        for d in devices(&kernel(code, [1, 0, 0, 4], false)) {
            let (i, o) = (d.upload(&[offset; 32]), d.upload(&[0u32; 128]));
            let r = d.try_launch("k", [1; 3], [32, 1, 1], 0, &[Arg::Ptr(i), Arg::Ptr(o)]);
            match r {
                Ok(_) => assert_eq!(error, ""),
                Err(e) => {
                    let text = e.to_string().to_lowercase();
                    assert!(
                        !error.is_empty() && text.contains(error),
                        "{offset}: {text}"
                    );
                }
            }
        }
    }
}
