//! Graphs as programs build them. They live here; the host sees only executable ones
//! ([`graph_exec`](crate::graph_exec)).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use cudarc::driver::sys::{CUgraph, CUgraphNode};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{MemOp, Opcode};

use crate::abi::{Done, Function as HostFunction, INVALID};
use crate::copy3d::Copy3d;
use crate::ctx::Ctx;
use crate::event::Event;
use crate::graph_memory::GraphMemory;
use crate::init::Driver;
use crate::launch::Launch;
use crate::user_object::Held;

/// `CUgraphEdgeData` without its reserved bytes: ports and type.
pub type Edge = [u8; 3];

/// A memory set.
#[derive(Clone, Debug)]
pub struct Set {
    pub ctx: Arc<Ctx>,
    pub dst: u64,
    pub pitch: u64,
    pub value: u32,
    pub element: u32,
    pub width: u64,
    pub height: u64,
}

/// What a node does.
#[derive(Clone)]
pub enum Work {
    Kernel(Launch),
    Copy(Copy3d),
    Set(Set),
    Host {
        function: HostFunction,
        data: u64,
    },
    Child(Arc<Graph>),
    Empty,
    Record {
        handle: u64,
        event: Arc<Event>,
    },
    Wait {
        handle: u64,
        event: Arc<Event>,
    },
    Alloc(Arc<GraphMemory>),
    Free(u64),
    MemOps {
        ctx: Arc<Ctx>,
        operations: Vec<MemOp>,
    },
    /// A call of another library of the guest, with stream 0.
    Library {
        ctx: Arc<Ctx>,
        opcode: Opcode,
        request: Arc<[u8]>,
    },
}

impl Work {
    /// `CUgraphNodeType`.
    pub fn kind(&self) -> u32 {
        match self {
            // What NVIDIA's libraries do in a capture are kernels, too. Their parameters are not known here.
            Work::Kernel(_) | Work::Library { .. } => 0,
            Work::Copy(_) => 1,
            Work::Set(_) => 2,
            Work::Host { .. } => 3,
            Work::Child(_) => 4,
            Work::Empty => 5,
            Work::Wait { .. } => 6,
            Work::Record { .. } => 7,
            Work::Alloc(_) => 10,
            Work::Free(_) => 11,
            Work::MemOps { .. } => 12,
        }
    }

    /// The context that it runs in, where it has one of its own.
    pub fn ctx(&self) -> Option<&Arc<Ctx>> {
        match self {
            Work::Kernel(launch) => Some(&launch.function.ctx),
            Work::Copy(copy) => Some(&copy.ctx),
            Work::Set(set) => Some(&set.ctx),
            Work::Record { event, .. } | Work::Wait { event, .. } => Some(&event.ctx),
            Work::MemOps { ctx, .. } | Work::Library { ctx, .. } => Some(ctx),
            _ => None,
        }
    }
}

/// A node.
#[derive(Clone)]
pub struct Node {
    /// Its handle.
    pub handle: u64,
    /// What it does.
    pub work: Arc<Work>,
    /// Indices of the nodes that it follows.
    pub after: Vec<(usize, Edge)>,
    /// The node that it is a clone of.
    original: u64,
}

/// Where a node's handle leads.
#[derive(Debug)]
pub struct NodeRef {
    graph: Weak<Graph>,
    index: usize,
}

/// A graph.
pub struct Graph {
    /// Its handle.
    pub handle: u64,
    /// A number that no other graph has.
    pub unique: u64,
    /// It belongs to a node of another graph.
    child: bool,
    /// The graph that it is a clone of.
    original: u64,
    state: Mutex<State>,
    /// Objects of the program that it keeps.
    pub held: Held,
}

#[derive(Default)]
pub struct State {
    /// Nodes by index; a destroyed one leaves a hole.
    pub nodes: Vec<Option<Node>>,
}

impl State {
    /// Live nodes with their indices.
    pub fn live(&self) -> impl Iterator<Item = (usize, &Node)> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter_map(|(i, node)| Some((i, node.as_ref()?)))
    }

    /// Indices in an order in which each node comes after those that it follows; equal ones in the
    /// order in which they were made.
    ///
    /// # Errors
    /// `ERROR_INVALID_VALUE` for a cycle.
    pub fn order(&self) -> Done<Vec<usize>> {
        if self
            .live()
            .all(|(i, node)| node.after.iter().all(|(a, _)| *a < i))
        {
            return Ok(self.live().map(|(i, _)| i).collect());
        }
        let mut left: Vec<usize> = vec![0; self.nodes.len()];
        let mut followers: HashMap<usize, Vec<usize>> = HashMap::new();
        for (i, node) in self.live() {
            left[i] = node.after.len();
            for (earlier, _) in &node.after {
                followers.entry(*earlier).or_default().push(i);
            }
        }
        let mut ready: BTreeSet<usize> = self
            .live()
            .map(|(i, _)| i)
            .filter(|i| left[*i] == 0)
            .collect();
        let mut order = Vec::new();
        while let Some(i) = ready.pop_first() {
            order.push(i);
            for follower in followers.get(&i).into_iter().flatten() {
                left[*follower] -= 1;
                if left[*follower] == 0 {
                    ready.insert(*follower);
                }
            }
        }
        if order.len() == self.live().count() {
            Ok(order)
        } else {
            Err(INVALID)
        }
    }

    /// Indices of all nodes that these follow, with themselves.
    pub fn ancestors(&self, of: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut open: Vec<usize> = of.into_iter().collect();
        while let Some(i) = open.pop() {
            if found.insert(i)
                && let Some(Some(node)) = self.nodes.get(i)
            {
                open.extend(node.after.iter().map(|(a, _)| *a));
            }
        }
        found
    }
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "graph {:#x}", self.handle)
    }
}

impl Graph {
    /// Its nodes.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// True for a graph inside of a node: it goes with the node.
    pub fn is_child(&self) -> bool {
        self.child
    }
}

impl Driver {
    /// An empty graph.
    pub fn new_graph(&self) -> Done<Arc<Graph>> {
        self.make_graph(false, 0)
    }

    fn make_graph(&self, child: bool, original: u64) -> Done<Arc<Graph>> {
        let unique = self.unique_id();
        let made = self.graphs.insert(|handle| Graph {
            handle,
            unique,
            child,
            original,
            state: Mutex::default(),
            held: Held::default(),
        });
        made.map(|(_, graph)| graph)
            .ok_or(Status::ERROR_OUT_OF_MEMORY)
    }

    /// The graph of a handle.
    pub fn graph(&self, graph: CUgraph) -> Done<Arc<Graph>> {
        self.graphs.get(graph as u64).ok_or(INVALID)
    }

    /// The graph and the index of a node.
    pub fn node(&self, node: CUgraphNode) -> Done<(Arc<Graph>, usize)> {
        let found = self.graph_nodes.get(node as u64).ok_or(INVALID)?;
        let graph = found.graph.upgrade().ok_or(INVALID)?;
        Ok((graph, found.index))
    }

    /// What a node does.
    pub fn work_of(&self, node: CUgraphNode) -> Done<Arc<Work>> {
        let (graph, index) = self.node(node)?;
        let state = graph.state();
        let node = state.nodes.get(index).and_then(Option::as_ref);
        Ok(Arc::clone(&node.ok_or(INVALID)?.work))
    }

    /// Changes what a node does.
    pub fn set_work(&self, node: CUgraphNode, work: Work) -> Done {
        let (graph, index) = self.node(node)?;
        let mut state = graph.state();
        let node = state.nodes.get_mut(index).and_then(Option::as_mut);
        node.ok_or(INVALID)?.work = Arc::new(work);
        Ok(())
    }

    /// Adds a node after others of the same graph, given by their indices.
    pub fn add_node(
        &self,
        graph: &Arc<Graph>,
        after: Vec<(usize, Edge)>,
        work: Arc<Work>,
        original: u64,
    ) -> Done<u64> {
        let mut state = graph.state();
        let index = state.nodes.len();
        let made = self.graph_nodes.insert(|_| NodeRef {
            graph: Arc::downgrade(graph),
            index,
        });
        let (handle, _) = made.ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        state.nodes.push(Some(Node {
            handle,
            work,
            after,
            original,
        }));
        Ok(handle)
    }

    /// Indices of nodes, which must be of this graph and each given once.
    pub fn indices(
        &self,
        graph: &Arc<Graph>,
        nodes: impl IntoIterator<Item = Done<(u64, Edge)>>,
    ) -> Done<Vec<(usize, Edge)>> {
        let mut found: Vec<(usize, Edge)> = Vec::new();
        for node in nodes {
            let (handle, edge) = node?;
            let (of, index) = self.node(handle as CUgraphNode)?;
            if !Arc::ptr_eq(&of, graph) || found.iter().any(|(i, _)| *i == index) {
                return Err(INVALID);
            }
            found.push((index, edge));
        }
        Ok(found)
    }

    /// A copy with the same indices; graphs inside of nodes are copied too.
    pub fn clone_graph(&self, graph: &Graph, child: bool) -> Done<Arc<Graph>> {
        let nodes = graph.state().nodes.clone();
        if nodes
            .iter()
            .flatten()
            .any(|n| matches!(*n.work, Work::Alloc(_) | Work::Free(_)))
        {
            // "Graphs containing memory allocation or free nodes cannot be cloned."
            return Err(Status::ERROR_NOT_SUPPORTED);
        }
        let clone = self.make_graph(child, graph.handle)?;
        for node in nodes {
            match node {
                None => clone.state().nodes.push(None),
                Some(node) => {
                    let work = match &*node.work {
                        Work::Child(inner) => Arc::new(Work::Child(self.clone_graph(inner, true)?)),
                        _ => node.work,
                    };
                    self.add_node(&clone, node.after, work, node.handle)?;
                }
            }
        }
        clone.held.copy_from(&graph.held);
        Ok(clone)
    }

    /// The node of a clone that was made from `original`.
    pub fn find_in_clone(&self, original: CUgraphNode, clone: &Graph) -> Done<u64> {
        let (graph, _) = self.node(original)?;
        let state = clone.state();
        // "Node handle in the original graph": of the graph itself, or of one inside of it.
        for (_, node) in state.live() {
            if node.original == original as u64 && clone.original == graph.handle {
                return Ok(node.handle);
            }
        }
        let inner: Vec<Arc<Graph>> = state
            .live()
            .filter_map(|(_, n)| match &*n.work {
                Work::Child(inner) => Some(Arc::clone(inner)),
                _ => None,
            })
            .collect();
        drop(state);
        inner
            .iter()
            .find_map(|inner| self.find_in_clone(original, inner).ok())
            .ok_or(INVALID)
    }

    /// Lets a graph's handles die.
    pub fn bury_graph(&self, graph: &Graph) {
        self.graphs.remove(graph.handle);
        let nodes = std::mem::take(&mut graph.state().nodes);
        for node in nodes.into_iter().flatten() {
            self.graph_nodes.remove(node.handle);
            if let Work::Child(inner) = &*node.work {
                self.bury_graph(inner);
            }
        }
        graph.held.release_all(self);
    }

    /// Takes a node out of its graph.
    pub fn destroy_node(&self, handle: CUgraphNode) -> Done {
        let (graph, index) = self.node(handle)?;
        let mut state = graph.state();
        let node = state.nodes.get_mut(index).and_then(Option::take);
        let node = node.ok_or(INVALID)?;
        for other in state.nodes.iter_mut().flatten() {
            other.after.retain(|(a, _)| *a != index);
        }
        drop(state);
        self.graph_nodes.remove(node.handle);
        if let Work::Child(inner) = &*node.work {
            self.bury_graph(inner);
        }
        Ok(())
    }
}
