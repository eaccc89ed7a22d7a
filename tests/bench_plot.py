# SPDX-License-Identifier: BSD-2-Clause
# SPDX-FileCopyrightText: The Bulkhead authors
"""Draws what single operations cost beside the aims and the peers, by gnuplot."""
import subprocess

# KVM's and Xen's figures by row of the bench guest, as docs/performance.md has them.
PEERS = {
    "vtx": {"CPUID 0": (1175, 889), "hypercall": (3413, 878), "RDMSR TSC_ADJUST": (1199, 789),
            "port read, PIC": (1364, None), "port read, PIT": (1364, None),
            "port read, UART status": (7437, None), "port read, unclaimed": (7430, None),
            "IOAPIC select and read": (15937, None), "EOI, x2APIC": (1749, 7),
            "self-IPI by SELF_IPI, x2APIC": (6155, None),
            "TSC deadline, due at once": (5962, None), "CR0.WP toggled twice": (4463, 2152),
            "CR4.PGE toggled twice": (32, None), "MOV to CR8": (7, 3),
            "IPI to another vCPU and its switch": (25000, None)},
    "amd": {"CPUID 0": (3250, 6652), "hypercall": (9504, 6775), "RDMSR TSC_ADJUST": (3152, 6570),
            "port read, PIC": (1685, None), "port read, PIT": (1685, None),
            "port read, UART status": (3616, None), "port read, unclaimed": (3598, None),
            "IOAPIC select and read": (8106, None), "EOI, x2APIC": (3763, 6789),
            "self-IPI by SELF_IPI, x2APIC": (10315, None),
            "TSC deadline, due at once": (11820, None), "CR0.WP toggled twice": (9664, 23895),
            "CR4.PGE toggled twice": (7563, None), "MOV to CR8": (7, 6),
            "IPI to another vCPU and its switch": (37000, None)},
}
TITLES = {"vtx": "VT-x (Bochs)", "amd": "AMD-V (QEMU TCG)"}
HEAD = """set terminal svg size 1000,1000 noenhanced font "sans,13" background "white"
set output "{path}"
set multiplot layout {panels},1
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.9 border -1
set logscale y 10
set yrange [1:100000]
set ylabel "instructions"
set grid ytics
set xtics rotate by -35 noenhanced
set key top left horizontal
"""
PLOT = """set title "{title}: one operation"
plot $data_{backend} using 2:xtic(1) title "aim" linecolor rgb "#cccccc", \\
    "" using 3 title "Bulkhead" linecolor rgb "#1f77b4", \\
    "" using 4 title "KVM" linecolor rgb "#ff7f0e", \\
    "" using 5 title "Xen" linecolor rgb "#2ca02c"
"""
ABSENT = "NaN"


def block(backend, index, rows, aims):
    lines = [f"$data_{backend} << END"]
    for name, peers in PEERS[backend].items():
        figures = aims[name][index], max(rows[backend][name][0], 1), *peers
        lines.append(" ".join([f'"{name}"', *(ABSENT if figure is None else str(figure)
                                              for figure in figures)]))
    return "\n".join([*lines, "END", ""])


def draw(rows, aims, path):
    script = "".join(block(backend, index, rows, aims) for index, backend in enumerate(rows))
    script += HEAD.format(path=path, panels=len(rows))
    script += "".join(PLOT.format(backend=backend, title=TITLES[backend]) for backend in rows)
    subprocess.run(["gnuplot"], input=script, text=True, check=True)
