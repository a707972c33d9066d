//! Links parsed modules into one (PTX ISA, "Linking Directives").

use std::collections::HashMap;
use std::sync::Arc;

use super::ast::{Body, InitValue, Linkage, Operand, PtxFunction, PtxModule, Symbol};
use super::types::Space;
use crate::ir::SystemCall;

/// A parsed module with its text and a name for messages.
pub struct Input {
    /// Name.
    pub name: String,
    /// Text.
    pub source: Arc<String>,
    /// Parsed.
    pub module: PtxModule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Var(Space, u64),
    Func,
}

/// The definition of a name that counts.
#[derive(Clone, Copy, Debug)]
struct Definition {
    input: usize,
    index: u32,
    kind: Kind,
    linkage: Linkage,
}

/// Where the variables and the functions of an input went.
type Places = (Vec<Option<u32>>, Vec<Option<u32>>);

/// Links modules: texts one after another, symbols resolved.
///
/// # Errors
/// The linker's log: a line for each symbol that is missing or has several definitions.
pub fn link(inputs: Vec<Input>) -> Result<(String, PtxModule), String> {
    let mut log = String::new();
    let definitions = definitions(&inputs, &mut log);
    let mut out = PtxModule::default();
    // Where each variable and function of each input went.
    let mut maps: Vec<Places> = Vec::new();
    for (k, input) in inputs.iter().enumerate() {
        let m = &input.module;
        out.version = out.version.max(m.version);
        out.target = out.target.max(m.target);
        let own = |name: &str, linkage: Linkage, index: u32| {
            linkage == Linkage::Internal
                || definitions
                    .get(name)
                    .is_some_and(|d| (d.input, d.index) == (k, index))
        };
        let mut vars = vec![None; m.vars.len()];
        for (i, v) in m.vars.iter().enumerate() {
            if own(&v.name, v.linkage, i as u32) {
                vars[i] = Some(out.vars.len() as u32);
                out.vars.push(v.clone());
            }
        }
        let mut functions = vec![None; m.functions.len()];
        for (i, f) in m.functions.iter().enumerate() {
            if f.defined() && own(&f.name, visible(f.linkage, f.entry), i as u32) {
                functions[i] = Some(out.functions.len() as u32);
                out.functions.push(f.clone());
            }
        }
        maps.push((vars, functions));
    }
    resolve(&inputs, &definitions, &mut maps, &mut out, &mut log);
    if !log.is_empty() {
        return Err(log);
    }
    let mut source = String::new();
    for (k, input) in inputs.iter().enumerate() {
        let (vars, functions) = &maps[k];
        let map = |s: Symbol| match s {
            Symbol::Module(i) => vars.get(i as usize).copied().flatten().map(Symbol::Module),
            Symbol::Function(i) => functions
                .get(i as usize)
                .copied()
                .flatten()
                .map(Symbol::Function),
            s => Some(s),
        };
        let base = source.len() as u32;
        let first = |d: &Definition| d.input == k;
        for (i, v) in input.module.vars.iter().enumerate() {
            let kept = v.linkage == Linkage::Internal
                || definitions.get(v.name.as_str()).is_some_and(first);
            if let Some(at) = vars[i].filter(|_| kept)
                && let Some(v) = out.vars.get_mut(at as usize)
            {
                for item in &mut v.init {
                    rename_init(&mut item.value, &map);
                }
            }
        }
        for (i, f) in input.module.functions.iter().enumerate() {
            let linkage = visible(f.linkage, f.entry);
            let kept =
                linkage == Linkage::Internal || definitions.get(f.name.as_str()).is_some_and(first);
            if let Some(at) = functions[i].filter(|_| kept && f.defined())
                && let Some(body) = f.body()
                && let Some(to) = out.functions.get_mut(at as usize)
            {
                let mut body = body.clone();
                rename_body(&mut body, base, &map);
                to.set_body(body);
            }
        }
        source.push_str(&input.source);
        source.push('\n');
    }
    Ok((source, out))
}

/// A kernel is visible in any case.
fn visible(linkage: Linkage, entry: bool) -> Linkage {
    match linkage {
        Linkage::Internal if entry => Linkage::Visible,
        l => l,
    }
}

fn definitions<'a>(inputs: &'a [Input], log: &mut String) -> HashMap<&'a str, Definition> {
    let mut all: HashMap<&str, Definition> = HashMap::new();
    for (input, i) in inputs.iter().enumerate() {
        let m = &i.module;
        let vars = m.vars.iter().enumerate().map(|(index, v)| {
            let kind = Kind::Var(v.space, v.bytes);
            (v.name.as_str(), index as u32, kind, v.linkage)
        });
        let functions = m
            .functions
            .iter()
            .enumerate()
            .filter(|(_, f)| f.defined())
            .map(|(index, f)| {
                let linkage = visible(f.linkage, f.entry);
                (f.name.as_str(), index as u32, Kind::Func, linkage)
            });
        let aliases = m
            .aliases
            .iter()
            .map(|(name, index)| (name.as_str(), *index, Kind::Func, Linkage::Visible));
        for (name, index, kind, linkage) in vars.chain(functions).chain(aliases) {
            if matches!(linkage, Linkage::Internal | Linkage::Extern) {
                continue;
            }
            let new = Definition {
                input,
                index,
                kind,
                linkage,
            };
            let Some(old) = all.get_mut(name) else {
                all.insert(name, new);
                continue;
            };
            let strong = |l: Linkage| l == Linkage::Visible;
            let larger = match (old.kind, kind) {
                (Kind::Var(_, a), Kind::Var(_, b)) => b > a,
                _ => false,
            };
            if strong(linkage) && strong(old.linkage) {
                error(
                    log,
                    &format!(
                        "Multiple definition of '{name}' in '{}', first defined in '{}'",
                        i.name, inputs[old.input].name
                    ),
                );
            } else if strong(linkage)
                || (linkage == Linkage::Common && larger && !strong(old.linkage))
            {
                *old = new;
            }
        }
    }
    all
}

fn error(log: &mut String, text: &str) {
    log.push_str("error   : ");
    log.push_str(text);
    log.push('\n');
}

/// Gives declarations and definitions that do not count the place of the one that does.
fn resolve(
    inputs: &[Input],
    definitions: &HashMap<&str, Definition>,
    maps: &mut [Places],
    out: &mut PtxModule,
    log: &mut String,
) {
    // What the machine gives: dynamic shared memory and system calls, each once.
    let mut given: HashMap<&str, u32> = HashMap::new();
    for (k, input) in inputs.iter().enumerate() {
        let m = &input.module;
        let used = |s: Symbol| {
            let bodies = m.functions.iter().filter_map(PtxFunction::body);
            let mut inits = m.vars.iter().flat_map(|v| &v.init);
            bodies.clone().any(|b| match s {
                Symbol::Function(f) => b.callees.contains(&f),
                Symbol::Module(v) => b.used_vars.contains(&v),
                _ => false,
            }) || inits.any(|i| matches!(i.value, InitValue::Address { symbol, .. } if symbol == s))
        };
        for (i, v) in m.vars.iter().enumerate() {
            if maps[k].0[i].is_some() {
                continue;
            }
            maps[k].0[i] = match definitions.get(v.name.as_str()) {
                Some(d) => {
                    check_variable(input, v.space, v.bytes, &v.name, d, inputs, log);
                    maps[d.input].0.get(d.index as usize).copied().flatten()
                }
                None if v.space == Space::Shared && v.bytes == 0 => {
                    Some(*given.entry(&v.name).or_insert_with(|| {
                        out.vars.push(v.clone());
                        out.vars.len() as u32 - 1
                    }))
                }
                None => {
                    if used(Symbol::Module(i as u32)) {
                        undefined(log, &v.name, &input.name);
                    }
                    None
                }
            };
        }
        for (i, f) in m.functions.iter().enumerate() {
            if maps[k].1[i].is_some() {
                continue;
            }
            let words = |params: &[super::ast::Param]| -> Vec<u32> {
                params.iter().map(|p| p.bytes).collect()
            };
            maps[k].1[i] = match definitions.get(f.name.as_str()) {
                Some(d) if d.kind == Kind::Func => {
                    let target = inputs[d.input].module.functions.get(d.index as usize);
                    if target.is_some_and(|t| {
                        words(&t.params) != words(&f.params) || words(&t.rets) != words(&f.rets)
                    }) {
                        error(
                            log,
                            &format!(
                                "Prototype doesn't match for '{}' in '{}', first defined in '{}'",
                                f.name, input.name, inputs[d.input].name
                            ),
                        );
                    }
                    maps[d.input].1.get(d.index as usize).copied().flatten()
                }
                None if SystemCall::of(&f.name).is_some() => {
                    Some(*given.entry(&f.name).or_insert_with(|| {
                        out.functions.push(f.clone());
                        out.functions.len() as u32 - 1
                    }))
                }
                _ => {
                    if used(Symbol::Function(i as u32)) {
                        undefined(log, &f.name, &input.name);
                    }
                    None
                }
            };
        }
    }
}

fn undefined(log: &mut String, name: &str, input: &str) {
    error(
        log,
        &format!("Undefined reference to '{name}' in '{input}'"),
    );
}

fn check_variable(
    input: &Input,
    space: Space,
    bytes: u64,
    name: &str,
    d: &Definition,
    inputs: &[Input],
    log: &mut String,
) {
    let first = &inputs[d.input].name;
    match d.kind {
        Kind::Var(s, _) if s != space => error(
            log,
            &format!(
                "State space doesn't match for '{name}' in '{}', first specified in '{first}'",
                input.name
            ),
        ),
        // An array without a size takes that of the definition.
        Kind::Var(_, n) if bytes != 0 && n != bytes && d.linkage != Linkage::Common => error(
            log,
            &format!(
                "Size doesn't match for '{name}' in '{}', first specified in '{first}'",
                input.name
            ),
        ),
        Kind::Var(..) => {}
        Kind::Func => undefined(log, name, &input.name),
    }
}

fn rename_init(value: &mut InitValue, map: &impl Fn(Symbol) -> Option<Symbol>) {
    if let InitValue::Address { symbol, .. } = value
        && let Some(s) = map(*symbol)
    {
        *symbol = s;
    }
}

fn rename_operand(o: &mut Operand, map: &impl Fn(Symbol) -> Option<Symbol>) {
    match o {
        Operand::Sym(s, _) => {
            if let Some(new) = map(*s) {
                *s = new;
            }
        }
        Operand::Mem(b, _) => rename_operand(b, map),
        Operand::Pair(a, b) => {
            rename_operand(a, map);
            rename_operand(b, map);
        }
        Operand::Vector(l) | Operand::List(l) => l.iter_mut().for_each(|o| rename_operand(o, map)),
        _ => {}
    }
}

fn rename_body(body: &mut Body, base: u32, map: &impl Fn(Symbol) -> Option<Symbol>) {
    for i in &mut body.insns {
        for at in [&mut i.opcode, &mut i.text] {
            *at = (at.0 + base, at.1 + base);
        }
        i.operands.iter_mut().for_each(|o| rename_operand(o, map));
    }
    for v in &mut body.vars {
        v.init
            .iter_mut()
            .for_each(|i| rename_init(&mut i.value, map));
    }
    let indices = |list: &mut Vec<u32>, of: fn(u32) -> Symbol| {
        *list = list
            .iter()
            .filter_map(|&i| match map(of(i)) {
                Some(Symbol::Function(i) | Symbol::Module(i)) => Some(i),
                _ => None,
            })
            .collect();
        list.sort_unstable();
        list.dedup();
    };
    indices(&mut body.callees, Symbol::Function);
    indices(&mut body.addressed, Symbol::Function);
    indices(&mut body.used_vars, Symbol::Module);
}
