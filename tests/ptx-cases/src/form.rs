//! One form of an instruction: its kernel, what goes in, and what must come out.

/// What one word of the output must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Want {
    /// These bits.
    Bits(u64),
    /// One of these.
    OneOf(Vec<u64>),
    /// A NaN of so many bits: the ISA leaves open which.
    Nan(u32),
    /// A float of so many bits that is near a value, by the error that the ISA states.
    Near(u32, f64, Bound),
    /// From the first to the second.
    Range(u64, u64),
}

/// An error that the ISA allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Of the exact value, in units of the last place of the result.
    Ulp(f64),
    /// `2^x` of the exact value.
    Relative(f64),
    /// `2^x`.
    Absolute(f64),
}

fn number(bits: u32, v: u64) -> f64 {
    use crate::real;
    match bits {
        16 => real::F16.to_f64(v & 0xffff),
        17 => real::BF16.to_f64(v & 0xffff),
        32 => f64::from(f32::from_bits(v as u32)),
        _ => f64::from_bits(v),
    }
}

impl Want {
    /// Whether `got` is it.
    pub fn holds(&self, got: u64) -> bool {
        match self {
            Want::Bits(v) => got == *v,
            Want::OneOf(list) => list.contains(&got),
            Want::Nan(bits) => number(*bits, got).is_nan(),
            Want::Range(lo, hi) => (*lo..=*hi).contains(&got),
            Want::Near(bits, exact, bound) => {
                let v = number(*bits, got);
                if exact.is_nan() || exact.is_infinite() {
                    return if exact.is_nan() {
                        v.is_nan()
                    } else {
                        v == *exact
                    };
                }
                // Fraction bits and the exponent of the smallest normal number.
                let (fraction, smallest) = match bits {
                    16 => (10, -14),
                    17 => (7, -126),
                    32 => (23, -126),
                    _ => (52, -1022),
                };
                let exponent = exact.abs().log2().floor().max(f64::from(smallest));
                let ulp = (exponent - f64::from(fraction)).exp2();
                let allowed = match bound {
                    Bound::Ulp(n) => n * ulp,
                    Bound::Relative(p) => p.exp2() * exact.abs(),
                    Bound::Absolute(p) => p.exp2(),
                };
                if v.is_infinite() {
                    // Beyond the greatest number: the exact value must be near that.
                    return v.signum() == exact.signum()
                        && exact.abs() + allowed + ulp >= greatest(*bits);
                }
                // The result is a number of the format, so half a unit is lost in any case.
                (v - exact).abs() <= allowed + ulp * 0.5
            }
        }
    }
}

fn greatest(bits: u32) -> f64 {
    match bits {
        16 => 65504.0,
        17 => 3.389_531_389_251_535_5e38,
        32 => f64::from(f32::MAX),
        _ => f64::MAX,
    }
}

/// How a kernel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It runs, and its output is compared.
    Output,
    /// `CUDA_ERROR_ILLEGAL_ADDRESS`.
    IllegalAddress,
    /// `CUDA_ERROR_MISALIGNED_ADDRESS`.
    MisalignedAddress,
    /// `CUDA_ERROR_LAUNCH_FAILED` on a GPU: `trap`.
    Trap,
    /// The software GPU does not execute it, and says so.
    Refused,
}

/// A form.
#[derive(Clone, Debug)]
pub struct Form {
    /// Part of the table.
    pub section: &'static str,
    /// The instruction with all modifiers, as the page shows it.
    pub opcode: String,
    /// The PTX version (times ten) and architecture that it needs.
    pub needs: (u32, u32),
    /// Declarations outside the kernel; names in it contain `#`, which stands for the kernel's name.
    pub module: String,
    /// The instructions.
    pub code: String,
    /// Register types of `%a`, `%b`, `%c`, `%e`, … ([`IN`]), each read from 8 bytes of the thread's input.
    pub inputs: Vec<&'static str>,
    /// Register types of `%x`, `%y`, `%z`, `%w`, … ([`OUT`]), each written to 8 bytes of the thread's output.
    pub outputs: Vec<&'static str>,
    /// The inputs of all threads.
    pub input: Vec<u64>,
    /// What must come out of all threads.
    pub want: Vec<Want>,
    /// Threads of a block.
    pub block: u32,
    /// Threads in all.
    pub threads: u32,
    /// Whether each thread stands for itself, so that a whole block may compute one case.
    pub alone: bool,
    /// How it ends.
    pub end: End,
}

/// Names of the registers that hold a thread's inputs.
pub const IN: [&str; 16] = [
    "a", "b", "c", "e", "i4", "i5", "i6", "i7", "i8", "i9", "i10", "i11", "i12", "i13", "i14",
    "i15",
];
/// Names of the registers whose values are a thread's outputs.
pub const OUT: [&str; 8] = ["x", "y", "z", "w", "o4", "o5", "o6", "o7"];

impl Form {
    /// Whether a bound, not bits, is compared.
    pub fn bounded(&self) -> bool {
        self.want.iter().any(|w| matches!(w, Want::Near(..)))
    }

    /// The first word: `mul` of `mul.lo.u32`.
    pub fn mnemonic(&self) -> &str {
        self.opcode.split('.').next().unwrap_or_default()
    }

    /// The kernel's text. If `whole`, a block computes one case with all its threads, so that all
    /// values are the same in a warp.
    pub fn kernel(&self, name: &str, whole: bool) -> String {
        let mut s = format!(
            "{}.visible .entry {name}(.param .u64 pi, .param .u64 po, .param .u32 pn)\n{{\n\
             .reg .pred %p<8>, %pz; .reg .b16 %h<16>; .reg .b32 %r<24>, %t, %tn; .reg .b64 %q<16>, %in, %out;\n",
            self.module.replace('#', name)
        );
        for (list, names) in [(&self.inputs, &IN[..]), (&self.outputs, &OUT[..])] {
            for (ty, n) in list.iter().zip(names) {
                s += &format!(".reg .{ty} %{n};\n");
            }
        }
        s += "ld.param.u64 %in, [pi]; ld.param.u64 %out, [po]; ld.param.u32 %tn, [pn];\n";
        s += if whole {
            "mov.u32 %t, %ctaid.x;\n"
        } else {
            "mov.u32 %r0, %ctaid.x; mov.u32 %r1, %ntid.x; mov.u32 %r2, %tid.x; mad.lo.u32 %t, %r0, %r1, %r2;\n"
        };
        s += "setp.ge.u32 %pz, %t, %tn; @%pz bra DONE;\n";
        s += &format!(
            "mad.wide.u32 %in, %t, {}, %in; mad.wide.u32 %out, %t, {}, %out;\n",
            8 * self.inputs.len(),
            8 * self.outputs.len()
        );
        for (k, ty) in self.inputs.iter().enumerate() {
            let (n, at) = (IN[k], 8 * k);
            s += &match *ty {
                "pred" => format!("ld.global.u32 %r0, [%in+{at}]; setp.ne.u32 %{n}, %r0, 0;\n"),
                ty => format!("ld.global.{ty} %{n}, [%in+{at}];\n"),
            };
        }
        s += &self.code.replace('#', name);
        s.push('\n');
        for (k, ty) in self.outputs.iter().enumerate() {
            let (n, at) = (OUT[k], 8 * k);
            s += &match *ty {
                "pred" => format!("selp.u32 %r0, 1, 0, %{n}; st.global.u32 [%out+{at}], %r0;\n"),
                ty => format!("st.global.{ty} [%out+{at}], %{n};\n"),
            };
        }
        s + "DONE:\nret;\n}\n"
    }
}

/// The outputs of all threads of a block from their inputs.
type OfBlock<'a> = dyn Fn(&[Vec<u64>]) -> Vec<Vec<Want>> + 'a;

/// Collects the forms of a section.
pub struct Table {
    /// All so far.
    pub forms: Vec<Form>,
    section: &'static str,
    needs: (u32, u32),
}

impl Table {
    /// An empty table.
    pub fn new() -> Table {
        Table {
            forms: Vec::new(),
            section: "",
            needs: (63, 50),
        }
    }

    /// The forms that follow are of this section, and need no more than PTX 6.3 and sm_50.
    pub fn section(&mut self, name: &'static str) {
        self.section = name;
        self.needs = (63, 50);
    }

    /// The forms that follow need this PTX version (times ten) and architecture.
    pub fn needs(&mut self, version: u32, sm: u32) {
        self.needs = (version, sm);
    }

    /// A form whose code writes `%x`, … from `%a`, …, for each list of inputs.
    pub fn code(
        &mut self,
        opcode: &str,
        code: &str,
        inputs: &[&'static str],
        outputs: &[&'static str],
        cases: &[Vec<u64>],
        want: impl Fn(&[u64]) -> Vec<Want>,
    ) -> &mut Form {
        self.add(opcode, code, inputs, outputs, cases, &want)
    }

    // One body for all closures: a thousand instances take minutes to compile.
    fn add(
        &mut self,
        opcode: &str,
        code: &str,
        inputs: &[&'static str],
        outputs: &[&'static str],
        cases: &[Vec<u64>],
        want: &dyn Fn(&[u64]) -> Vec<Want>,
    ) -> &mut Form {
        let mut all = Vec::new();
        for c in cases {
            assert_eq!(c.len(), inputs.len(), "inputs of {opcode}");
            let w = want(c);
            assert_eq!(w.len(), outputs.len(), "outputs of {opcode}");
            all.extend(w);
        }
        self.forms.push(Form {
            section: self.section,
            opcode: opcode.to_owned(),
            needs: self.needs,
            module: String::new(),
            code: code.to_owned(),
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
            input: cases.concat(),
            want: all,
            block: 64,
            threads: cases.len() as u32,
            alone: true,
            end: End::Output,
        });
        let last = self.forms.len() - 1;
        &mut self.forms[last]
    }

    /// `OPCODE %x, %a, …;` for each list of inputs.
    pub fn op(
        &mut self,
        opcode: &str,
        inputs: &[&'static str],
        output: &'static str,
        cases: &[Vec<u64>],
        want: impl Fn(&[u64]) -> Want,
    ) -> &mut Form {
        self.one(opcode, inputs, output, cases, &want)
    }

    /// The same with exact bits.
    pub fn bits(
        &mut self,
        opcode: &str,
        inputs: &[&'static str],
        output: &'static str,
        cases: &[Vec<u64>],
        want: impl Fn(&[u64]) -> u64,
    ) -> &mut Form {
        self.one(opcode, inputs, output, cases, &|i| Want::Bits(want(i)))
    }

    fn one(
        &mut self,
        opcode: &str,
        inputs: &[&'static str],
        output: &'static str,
        cases: &[Vec<u64>],
        want: &dyn Fn(&[u64]) -> Want,
    ) -> &mut Form {
        let operands: Vec<String> = IN[..inputs.len()].iter().map(|n| format!("%{n}")).collect();
        let code = format!("{opcode} %x, {};", operands.join(", "));
        self.add(opcode, &code, inputs, &[output], cases, &|i| vec![want(i)])
    }

    /// A form whose threads work together: `want` gives the outputs of all threads of a block from
    /// the inputs of all.
    #[allow(clippy::too_many_arguments)]
    pub fn block(
        &mut self,
        opcode: &str,
        code: &str,
        block: u32,
        inputs: &[&'static str],
        outputs: &[&'static str],
        cases: &[Vec<Vec<u64>>],
        want: impl Fn(&[Vec<u64>]) -> Vec<Vec<Want>>,
    ) -> &mut Form {
        self.together(opcode, code, block, inputs, outputs, cases, &want)
    }

    #[allow(clippy::too_many_arguments)]
    fn together(
        &mut self,
        opcode: &str,
        code: &str,
        block: u32,
        inputs: &[&'static str],
        outputs: &[&'static str],
        cases: &[Vec<Vec<u64>>],
        want: &OfBlock,
    ) -> &mut Form {
        let mut all = Vec::new();
        for c in cases {
            assert_eq!(c.len(), block as usize, "threads of {opcode}");
            let w = want(c);
            assert_eq!(w.len(), block as usize, "results of {opcode}");
            all.extend(w.concat());
        }
        let input: Vec<u64> = cases.iter().flat_map(|c| c.concat()).collect();
        assert_eq!(
            all.len(),
            cases.len() * block as usize * outputs.len(),
            "outputs of {opcode}"
        );
        let threads = cases.len() as u32 * block;
        let form = self.add(opcode, code, inputs, outputs, &[], &|_| vec![]);
        form.input = input;
        form.want = all;
        form.block = block;
        form.threads = threads;
        form.alone = false;
        form
    }

    /// A form of one block whose code reads all of `input` at `%in` and writes `want` to `%out`.
    pub fn whole(
        &mut self,
        opcode: &str,
        code: &str,
        block: u32,
        input: Vec<u64>,
        want: Vec<u64>,
    ) -> &mut Form {
        let form = self.code(opcode, code, &[], &[], &[], |_| vec![]);
        form.input = input;
        form.want = want.into_iter().map(Want::Bits).collect();
        form.block = block;
        form.threads = block;
        form.alone = false;
        form
    }

    /// A form that ends the launch.
    pub fn ends(&mut self, opcode: &str, code: &str, end: End) -> &mut Form {
        let form = self.code(opcode, code, &["b64"], &["b64"], &[vec![0]], |_| {
            vec![Want::Bits(0)]
        });
        form.end = end;
        form.alone = false;
        form
    }

    /// A form that is not executed.
    pub fn refused(&mut self, code: &str) -> &mut Form {
        let opcode = code.split([' ', ';']).next().unwrap_or_default().to_owned();
        self.ends(&opcode, code, End::Refused)
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}
