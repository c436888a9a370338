/* The hand-over of one volatile record between three nodes, with views that change under it (rules: db/ownership.h,
 * db/ownership_directory.h; words and counterexample numbers: tests/sim/README.md). README.md beside this file says
 * what is modelled and what is not; ./check runs it, whole and with single rules left out (the names in #ifdef).
 *
 * Nodes and messages interleave freely; a handler is one step. A node reads PREPARE and INSTALL as facts (proposed view,
 * view in force), at any time after they became true: as if those messages overtook all others, or came late.
 */
#define N 3
#define NONE 3
#define VIEWS (1 + CHANGES + MOVES + 1)
#define ROOM 8            /* messages on one link; a send into a full one is reported as an error */
#ifndef REQUESTS
#define REQUESTS 2        /* wishes of clients to write */
#endif
#ifndef CHANGES
#define CHANGES 1         /* views that come without a cause, besides the one that removes the lost node */
#endif
#ifndef MOVES
#define MOVES 0           /* the same with another lmaster */
#endif
#ifndef LOSSES
#define LOSSES 1          /* nodes that crash or are cut off: 1 at most */
#endif
#define VERSIONS (3 + REQUESTS)

#define bit_of(n) (1 << (n))
#define has(set, n) ((set) & bit_of(n))

mtype = { REQ, FWD, GRANT, MISS, QUERY, ANSWER, CLAIM };
/*                                 generation, and
 *   REQ     q                     make me owner
 *   FWD     q to after adopt      hand over to `to` for its request q; follows tenure `after`
 *   GRANT   q rsn value           you own it now
 *   MISS    q to                  I do not own it
 *   QUERY   round                 who has what?
 *   ANSWER  round own rsn
 *   CLAIM   own rsn               told to a new lmaster */
chan link[N * N] = [ROOM] of { mtype, byte, byte, byte, byte, byte };

/* --- views: one leader, who knows all (who leads is another model: tests/sim/control_plane_sim) */
byte last = 1;             /* newest proposed */
byte members[VIEWS + 1];
byte lmaster[VIEWS + 1];
byte since[VIEWS + 1];     /* from which view on lmaster has been lmaster without interruption */
bool in_force[VIEWS + 1];
byte newest = 1;           /* of those in force */
byte prepared;             /* who prepared `last` */
bool incomplete;           /* ... and said that its directory was not complete */
byte changes = CHANGES, moves = MOVES;
byte lost = NONE;          /* crashed, or cut off and alive until its lease ends */

/* --- nodes */
bool alive[N], gate[N];
byte gen[N], prom[N];      /* installed and prepared */
bool own[N];
byte rsn[N];               /* 0: no copy */
byte value[N];             /* the version, see below */
bool want[N];              /* a client waits to write */
byte out[N], next_q[N];    /* request under way, number of the next one */
byte ten[N];
byte succ[N], succ_q[N], next[N], after_next[N];
bool claiming[N];

/* --- directory, in every node's memory; true only where it is lmaster */
#define NO_ENTRY 0
#define ORPHAN 1
#define AT 2
#define SETTLING 3
byte entry[N], tail[N], tail_q[N], tag[N], claimed[N];
bool complete[N];
byte round[N], head[N], head_q[N], answered[N], best[N], best_rsn[N];
chan queue[N] = [N] of { byte, byte };

/* --- what is right: version v of the value was, at some time, at the nodes had[v] (of those not interrupted since) */
byte version;
byte had[VERSIONS + 1];
byte wishes = REQUESTS;

/* The arrival filter. It is applied when a message is sent and again when the receiver prepares or installs a view, not
 * when it arrives: what it refuses would be refused whenever it came, for generations only grow. */
#ifdef OLD_GRANT             /* 2 */
#define older_ok(dst, m, g) (m == GRANT && g < gen[dst])
#else
#define older_ok(dst, m, g) false
#endif
#define accepted(dst, from, m, g) (alive[dst] && has(members[prom[dst]], from) && (older_ok(dst, m, g) || \
    (g == gen[dst] -> prom[dst] == gen[dst] || m == GRANT : g >= prom[dst])))

inline send_as(from, dst, m, g, p1, p2, p3, p4) {
  if
  :: accepted(dst, from, m, g) -> link[(from) * N + (dst)] ! m, g, p1, p2, p3, p4
  :: else
  fi
}
inline send(from, dst, m, p1, p2, p3, p4) { send_as(from, dst, m, gen[from], p1, p2, p3, p4) }

inline refuse_old(n) {
  i = 0;
  do
  :: i < N ->
     to = len(link[i * N + n]);
     do
     :: to > 0 ->
        link[i * N + n] ? m, g, a, b, c, d;
        if :: accepted(n, i, m, g) -> link[i * N + n] ! m, g, a, b, c, d :: else fi;
        to--
     :: else -> break
     od;
     i++
  :: else -> break
  od;
  m = 0; g = 0; a = 0; b = 0; c = 0; d = 0; i = 0
}

/* I1: one owner among those that serve, and one among the members that are in the newest view in force. */
inline check_owners() {
  i = 0; owners = 0; serving = 0;
  do
  :: i < N ->
     owners = owners + (alive[i] && own[i] && gen[i] == newest && has(members[newest], i) -> 1 : 0);
     serving = serving + (alive[i] && own[i] && gate[i] -> 1 : 0);
     i++
  :: else -> break
  od;
  assert(owners <= 1 && serving <= 1)
}
/* A message that fits nothing: the node would count it and ask for a new view. With a rule left out it is only dropped, so
 * that what is found is what it leads to. */
#ifdef ONLY_INVARIANTS
#define misfit skip
#else
#define misfit assert(false)
#endif

inline forget_successors(n) { succ[n] = NONE; succ_q[n] = 0; next[n] = NONE; after_next[n] = 0 }

inline begin_tenure(n, q) {
  ten[n] = q; out[n] = 0;
#ifndef ONE_SUCCESSOR        /* 9 */
  succ[n] = next[n]; succ_q[n] = after_next[n];
  next[n] = NONE; after_next[n] = 0
#endif
}

/* --- the lmaster ---------------------------------------------------------------------------------------------- */

inline grant_fresh(n, to, q) { send(n, to, GRANT, q, 1, 0, 0) }

inline start_settle(n, to, q) {
  entry[n] = SETTLING; head[n] = to; head_q[n] = q;
  answered[n] = 0; best[n] = NONE; best_rsn[n] = 0;
  round[n]++;
  i = 0;
  do
  :: i < N -> if :: has(members[gen[n]], i) -> send(n, i, QUERY, round[n], 0, 0, 0) :: else fi; i++
  :: else -> break
  od
}

inline route(n, to, q) {
  if
  :: entry[n] == SETTLING -> queue[n] ! to, q
  :: entry[n] == AT ->
     send(n, tail[n], FWD, q, to, tail_q[n], 0);
     tail[n] = to; tail_q[n] = q
  :: entry[n] == NO_ENTRY && complete[n] ->
     grant_fresh(n, to, q);
     entry[n] = AT; tail[n] = to; tail_q[n] = q
  :: else -> tail[n] = NONE; tail_q[n] = 0; start_settle(n, to, q)
  fi
}

inline finish_settle(n, w, adopt) {
  if
  :: w != NONE -> if :: head_q[n] || adopt -> send(n, w, FWD, head_q[n], head[n], 0, adopt) :: else fi
  :: else -> if :: head_q[n] -> grant_fresh(n, head[n], head_q[n]) :: else fi
  fi;
  entry[n] = AT;
  if
  :: tail[n] != NONE
  :: tail[n] == NONE && head_q[n] -> tail[n] = head[n]; tail_q[n] = head_q[n]
  :: tail[n] == NONE && !head_q[n] -> tail[n] = w; tail_q[n] = 0; entry[n] = (w == NONE -> NO_ENTRY : AT)
  fi;
  head[n] = NONE; head_q[n] = 0; answered[n] = 0; best[n] = NONE; best_rsn[n] = 0;
  do
  :: nempty(queue[n]) -> queue[n] ? to, q; route(n, to, q)
  :: empty(queue[n]) -> break
  od
}

#ifdef MAJORITY_SETTLES   /* 4 */
#define all_answered(n) (answered[n] != 1 && answered[n] != 2 && answered[n] != 4)
#else
#define all_answered(n) (answered[n] == members[gen[n]])
#endif

inline on_answer(n, from, rnd, owns, r) {
  if
  :: entry[n] == SETTLING && round[n] == rnd ->
     if
     :: owns -> finish_settle(n, from, 0)
     :: else ->
        answered[n] = answered[n] | bit_of(from);
        if
        :: r > best_rsn[n] || (r == best_rsn[n] && r && from == head[n]) -> best[n] = from; best_rsn[n] = r
        :: else
        fi;
        if :: all_answered(n) -> finish_settle(n, best[n], best_rsn[n]) :: else fi
     fi
  :: else                 /* one owner ended the round early */
  fi
}

inline on_miss(n, from, q, to) {
  if
  :: !q -> if :: entry[n] == AT && tail[n] == from && !tail_q[n] -> entry[n] = ORPHAN; tail[n] = NONE :: else fi
  :: q && entry[n] == NO_ENTRY -> route(n, to, q)
  :: q && entry[n] == SETTLING -> misfit
  :: q && entry[n] != NO_ENTRY && entry[n] != SETTLING -> start_settle(n, to, q)   /* the tail stays */
  fi
}

inline on_claim(n, from, owns, r) {
  if
  :: !complete[n] ->
     if
#ifdef CLAIM_OVERWRITES      /* 8 */
     :: r && entry[n] != SETTLING ->
#else
     :: r && entry[n] != SETTLING && entry[n] != AT ->
#endif
        if
        :: owns -> entry[n] = AT; tail[n] = from; tail_q[n] = 0
        :: !owns && entry[n] != AT -> entry[n] = ORPHAN; tail[n] = NONE; tail_q[n] = 0
        :: else
        fi
     :: else
     fi;
     claimed[n] = claimed[n] | bit_of(from);
     complete[n] = (claimed[n] == members[gen[n]])
  :: else
  fi
}

inline install_directory(n, g) {
  do :: nempty(queue[n]) -> queue[n] ? _, _ :: empty(queue[n]) -> break od;
  head[n] = NONE; head_q[n] = 0; answered[n] = 0; best[n] = NONE; best_rsn[n] = 0; claimed[n] = 0; round[n] = 0;
  if
  :: lmaster[g] == n && tag[n] == since[g] && complete[n] ->
     if
     :: entry[n] == SETTLING || (entry[n] == AT && !has(members[g], tail[n])) ->
        entry[n] = ORPHAN; tail[n] = NONE; tail_q[n] = 0
#ifndef ENTRY_IS_TRUE        /* 5 */
     :: entry[n] == AT && has(members[g], tail[n]) -> tail_q[n] = 0     /* a hint from now on */
#endif
     :: else
     fi
  :: else ->
     entry[n] = NO_ENTRY; tail[n] = NONE; tail_q[n] = 0; complete[n] = false;
     tag[n] = (lmaster[g] == n -> since[g] : 0)
  fi
}

/* --- the holder and the requester ----------------------------------------------------------------------------- */

#ifdef ONE_SUCCESSOR
#define may_follow(x) true
#else
#define may_follow(x) ((x) == NONE)
#endif

inline on_forward(n, q, to, after, adopt) {
  if
  :: !own[n] && adopt && !after && rsn[n] == adopt -> own[n] = true; rsn[n]++; ten[n] = 0; check_owners()
  :: else
  fi;
  if
  :: !q -> if :: !own[n] -> send(n, lmaster[gen[n]], MISS, 0, to, 0, 0) :: else fi
  :: q && own[n] && (!after || after == ten[n]) ->
     if
     :: to == n -> if :: out[n] == q -> begin_tenure(n, q) :: else -> misfit fi
     :: to != n && may_follow(succ[n]) -> succ[n] = to; succ_q[n] = q
     :: else -> misfit
     fi
  :: q && !(own[n] && (!after || after == ten[n])) && out[n] && out[n] == after ->
#ifdef ONE_SUCCESSOR
     succ[n] = to; succ_q[n] = q
#else
     if
     :: next[n] == NONE -> next[n] = to; after_next[n] = q
     :: else -> misfit
     fi
#endif
  :: else -> send(n, lmaster[gen[n]], MISS, q, to, 0, 0)
  fi
}

inline take(n, q, r, v) {
  own[n] = true; rsn[n] = r; value[n] = v; had[v] = had[v] | bit_of(n);
  begin_tenure(n, q);
  check_owners()
}

inline gone(n) {
  alive[n] = false;
  refuse_old(n);
  gate[n] = false; own[n] = false; want[n] = false; rsn[n] = 0; value[n] = 0; claiming[n] = false;
  out[n] = 0; next_q[n] = 0; ten[n] = 0; forget_successors(n);
  do :: nempty(queue[n]) -> queue[n] ? _, _ :: empty(queue[n]) -> break od;
  entry[n] = NO_ENTRY; tail[n] = NONE; tail_q[n] = 0; tag[n] = 0; complete[n] = false; round[n] = 0; claimed[n] = 0;
  head[n] = NONE; head_q[n] = 0; answered[n] = 0; best[n] = NONE; best_rsn[n] = 0
}

/* What arrived on the link from `from`: of the installed view. What belongs to a later one stays on the link. */
inline handle(n, from) {
  link[from * N + n] ? m, g, a, b, c, d;
  if
  :: m == REQ -> route(n, from, a)
  :: m == FWD -> on_forward(n, a, b, c, d)
  :: m == GRANT ->
     if
     :: !own[n] && (out[n] == a || g < gen[n]) -> take(n, a, b, c)
     :: else -> misfit
     fi
  :: m == MISS -> on_miss(n, from, a, b)
  :: m == QUERY -> send_as(n, from, ANSWER, g, a, own[n], rsn[n], 0)
  :: m == ANSWER -> on_answer(n, from, a, b, c)
  :: m == CLAIM -> on_claim(n, from, a, b)
  fi;
  m = 0; g = 0; a = 0; b = 0; c = 0; d = 0; q = 0; to = 0; i = 0; owners = 0; serving = 0
}

#define due(f, what, G) link[(f) * N + n] ? [what, eval(G), a, b, c, d]
#ifdef OLD_GRANT
#define early(f) (gen[n] > 1 && due(f, GRANT, 1) || gen[n] > 2 && due(f, GRANT, 2))
#else
#ifdef ANSWER_BEFORE_INSTALL /* 3 */
#define early(f) (prom[n] > gen[n] && due(f, QUERY, prom[n]))
#else
#define early(f) false
#endif
#endif
#define READY(f) (due(f, m, gen[n]) || early(f))

/* I5: a client sees the newest version that a node not interrupted since ever had. */
inline use(n) {
  i = VERSIONS;
  do
  :: i > value[n] -> assert(!had[i]); i--
  :: else -> break
  od;
  version++;
  value[n] = version; had[version] = bit_of(n);
  want[n] = false;
  i = 0
}

/* The end: nobody waits, nothing is unread, the newest view is in force. A run that stops before is a deadlock. */
#define at_rest(n) (!want[n] && !out[n] && succ[n] == NONE && gen[n] == last && \
                    entry[n] != SETTLING && (entry[n] != ORPHAN || !complete[n]))
#define idle(n) (!alive[n] || ((lost == n || at_rest(n)) && !claiming[n] && \
                               len(link[n]) + len(link[N + n]) + len(link[2 * N + n]) == 0))
#define finished (!wishes && in_force[last] && (lost == NONE || !has(members[last], lost)) && \
                  (lost == NONE || !alive[lost] || !gate[lost]) && idle(0) && idle(1) && idle(2))
#define may_move(n) (prom[n] == gen[n] && gate[n])

proctype node(byte n) {
  byte m, g, a, b, c, d, q, to, i, owners, serving;
  do
  :: d_step { READY(0) -> handle(n, 0) }
  :: d_step { READY(1) -> handle(n, 1) }
  :: d_step { READY(2) -> handle(n, 2) }

  /* clients */
  :: d_step { wishes && alive[n] && gate[n] && !want[n] -> wishes--; want[n] = true }
  :: d_step { alive[n] && want[n] && own[n] && gate[n] -> use(n) }
  :: d_step { alive[n] && want[n] && !own[n] && !out[n] && may_move(n) ->
       out[n] = next_q[n];
       send(n, lmaster[gen[n]], REQ, next_q[n], 0, 0, 0);
       next_q[n]++ }

  /* hand over: used by those who wait here first, and what stays behind is the backup */
  :: d_step { alive[n] && own[n] && succ[n] != NONE && !want[n] && may_move(n) ->
       own[n] = false;
       send(n, succ[n], GRANT, succ_q[n], rsn[n] + 1, value[n], 0);
       if :: !value[n] -> rsn[n] = 0 :: else fi;
       succ[n] = NONE; succ_q[n] = 0 }

  /* views */
  :: d_step { alive[n] && prom[n] < last && has(members[last], n) ->
       prom[n] = last;
       forget_successors(n);
       refuse_old(n);
       prepared = prepared | bit_of(n);
       if :: lmaster[last] == n && tag[n] && !complete[n] -> incomplete = true :: else fi }
  :: d_step { alive[n] && gen[n] < prom[n] && in_force[prom[n]] ->
       gen[n] = prom[n];
       refuse_old(n);
       out[n] = 0; next_q[n] = 1; ten[n] = 0;
       install_directory(n, gen[n]);
       claiming[n] = (since[gen[n]] == gen[n]);
       check_owners(); i = 0; owners = 0; serving = 0 }
  :: d_step { alive[n] && claiming[n] && prom[n] == gen[n] ->
       send(n, lmaster[gen[n]], CLAIM, own[n], rsn[n], 0, 0);
       claiming[n] = false }
  :: d_step { alive[n] && claiming[n] && prom[n] > gen[n] -> claiming[n] = false }   /* never finished */
  /* the lmaster looks for an owner of what nobody asked for */
  :: d_step { alive[n] && entry[n] == ORPHAN && complete[n] && may_move(n) -> start_settle(n, NONE, 0); i = 0 }

  /* The lease of a node that was cut off ends. It would still answer, but nothing changes at it any more. */
  :: d_step { alive[n] && lost == n -> gone(n) }
  :: finished -> break
  od
}

/* One node at most crashes, or is cut off. */
proctype fault() {
  byte i, m, g, a, b, c, d, to;
  if
  :: atomic { LOSSES && !finished -> lost = 0 }
  :: atomic { LOSSES && !finished -> lost = 1 }
  :: atomic { LOSSES && !finished -> lost = 2 }
  :: finished -> goto over
  fi;
  if
  :: d_step { alive[lost] ->
       gone(lost);
       i = 1;
       do :: i <= VERSIONS -> had[i] = had[i] & (7 - bit_of(lost)); i++ :: else -> break od;
       i = 0 }
  :: true
  fi;
over:
  skip
}

#ifdef INSTALL_WITHOUT_LEASES   /* 1 */
#define leases_over true
#else
#define leases_over (lost == NONE || has(members[last], lost) || !alive[lost] || !gate[lost])
#endif

inline proposed() {
  prepared = 0; incomplete = false;
  since[last + 1] = (lmaster[last + 1] == lmaster[last] -> since[last] : last + 1);
  last++
}
#define to_remove (lost != NONE && has(members[last], lost))

/* The leader proposes without the lost node; and for no reason, with the same lmaster or another one. A
 * proposal may overtake an unfinished one. */
proctype leader() {
  byte i;
  do
  :: d_step { last < VIEWS && to_remove ->
       members[last + 1] = members[last] - bit_of(lost);
       lmaster[last + 1] = (lmaster[last] != lost -> lmaster[last] : (lost == 0 -> 1 : 0));
       proposed() }
  :: d_step { !finished && changes && !to_remove ->
       changes--;
       members[last + 1] = members[last];
       lmaster[last + 1] = lmaster[last];
       proposed() }
  :: d_step { !finished && moves && !to_remove && has(members[last], (lmaster[last] + 1) % N) ->
       moves--;
       members[last + 1] = members[last];
       lmaster[last + 1] = (lmaster[last] + 1) % N;
       proposed() }
  :: d_step { !in_force[last] && prepared == members[last] && leases_over ->
       if :: incomplete -> since[last] = last :: else fi;
       in_force[last] = true; newest = last;
       i = 1;     /* what only a removed node had is not promised */
       do :: i <= VERSIONS -> had[i] = had[i] & members[last]; i++ :: else -> break od;
       i = 0 }
  :: finished -> break
  od
}

/* Either nobody has the record yet, or one node owns it, and another has an older copy. */
init {
  byte i, owner, other;
  d_step {
    last = 1; members[1] = 7; lmaster[1] = 0; since[1] = 1; in_force[1] = true;
    do
    :: i < N ->
       alive[i] = true; gate[i] = true; gen[i] = 1; prom[i] = 1; next_q[i] = 1;
       forget_successors(i); tail[i] = NONE; head[i] = NONE; best[i] = NONE;
       i++
    :: else -> break
    od;
    tag[0] = 1; complete[0] = true;
    i = 0
  }
  if
  :: true
  :: owner = 0; other = 1
  :: owner = 1; other = 0
  :: owner = 1; other = 2
  fi;
  atomic {
    if
    :: owner != other ->
       own[owner] = true; rsn[owner] = 2; value[owner] = 2; rsn[other] = 1; value[other] = 1;
       version = 2; had[2] = bit_of(owner); had[1] = bit_of(owner) | bit_of(other);
       entry[0] = AT; tail[0] = owner
    :: else
    fi;
    owner = 0; other = 0;
    run node(0); run node(1); run node(2); run fault(); run leader()
  }
}
