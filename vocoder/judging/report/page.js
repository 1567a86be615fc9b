"use strict";
(() => {
  // One array of players a clip. Without this script, the browser's own players stay in place.
  const clips = [...document.querySelectorAll(".players")].map((clip) =>
    [...clip.querySelectorAll(".player")].map((figure) => {
      const [button, audio, picture, head] = ["button", "audio", ".picture", ".head"].map(
        (selector) => figure.querySelector(selector),
      );
      return { button, audio, picture, head };
    }),
  );
  const all = clips.flat();

  function play(player, from) {
    for (const other of all) if (other !== player) other.audio.pause();
    if (from !== undefined) player.audio.currentTime = from;
    // Another player may be started before this one has been.
    player.audio.play().catch((error) => {
      if (error.name !== "AbortError") throw error;
    });
  }

  function follow(player) {
    const { audio, head } = player;
    const part = audio.currentTime / audio.duration || 0;
    head.hidden = part === 0;
    head.style.left = `${100 * part}%`;
    if (!audio.paused) requestAnimationFrame(() => follow(player));
  }

  // The player that an arrow leads to, if there is one.
  function neighbour(row, column, key) {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (!(key in steps)) return undefined;
    const [down, right] = steps[key];
    return clips[row + down]?.[column + right];
  }

  clips.forEach((players, row) =>
    players.forEach((player, column) => {
      const { button, audio, picture } = player;
      audio.controls = false;
      audio.hidden = true;
      button.hidden = false;
      const show = () => {
        button.setAttribute("aria-pressed", String(!audio.paused));
        follow(player);
      };
      for (const event of ["play", "pause", "ended", "seeked"]) audio.addEventListener(event, show);
      button.addEventListener("click", () => (audio.paused ? play(player) : audio.pause()));
      picture.addEventListener("click", (event) => {
        const { left, width } = picture.getBoundingClientRect();
        play(player, ((event.clientX - left) / width) * audio.duration);
      });
      button.addEventListener("keydown", (event) => {
        if (event.altKey || event.ctrlKey || event.metaKey) return;
        if (event.key === "Home") {
          audio.currentTime = 0;
          event.preventDefault();
          return;
        }
        const next = neighbour(row, column, event.key);
        if (!next) return;
        event.preventDefault();
        next.button.focus();
        if (players.includes(next)) {
          const playing = !audio.paused;
          next.audio.currentTime = audio.currentTime;
          if (playing) play(next);
        } else audio.pause();
      });
    }),
  );

  for (const table of document.querySelectorAll(".sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    heads.forEach((head, column) =>
      head.querySelector("button").addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        for (const other of heads) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const keyed = [...body.rows].map((row) => [row.cells[column].textContent, row]);
        keyed.sort(([a], [b]) => {
          const [x, y] = [Number(a), Number(b)];
          if (Number.isNaN(x) && Number.isNaN(y)) return (down ? -1 : 1) * a.localeCompare(b);
          if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // last
          return down ? y - x : x - y;
        });
        body.append(...keyed.map(([, row]) => row));
      }),
    );
  }
})();
