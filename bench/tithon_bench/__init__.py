"""Tithon beside its peers.

    main           the command: what to measure, whom, how often
    environments   the peers' own Python environments, and the build of Tithon
    peers          how each is started, asked, killed and stopped
    measurements   one file per family of measurements
    client         the WebSocket client that Tithon and the Python program are measured with
    apart          parts that run in processes of their own
    journal        a session's journal seen from outside
    processes      CPU time and memory of a process, from /proc
    statistics     medians, spreads, ratios, growth exponents
    scale          how large everything is
    machine        what it is measured on
    results        what was measured, by figure, peer and round
    targets        what is to be reached
    report         terminal, JSON and page

A figure is a number measured for each peer in each round. Figures of different peers are only ever
compared with those of the same round. Nothing is remembered from earlier runs.
"""
