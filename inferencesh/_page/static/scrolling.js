// The end of a box that grows: followed by those who look at it, left alone by those who have scrolled up.

const NEAR = 60; // pixels from the end that still count as the end

export class EndFollower {
  #box;
  #changed;
  #follows = true;
  #top = 0; // where the box was scrolled to
  #scheduled = false;

  /** `changed(below)` is called with whether there may be something new below what is in sight. */
  constructor(box, changed = () => {}) {
    this.#box = box;
    this.#changed = changed;
    box.addEventListener("scroll", () => {
      // Text that has come since the box was scrolled puts the end further away: only who scrolls up stops following.
      this.#follows = this.#atEnd() || (this.#follows && box.scrollTop >= this.#top);
      this.#top = box.scrollTop;
      if (this.#follows) changed(false);
    }, { passive: true });
  }

  /** Notes that the box has grown; its end is brought into sight with the next frame. */
  grown() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
      if (this.#follows) this.#box.scrollTop = this.#box.scrollHeight;
      else this.#changed(!this.#atEnd());
    });
  }

  /** Brings the end into sight, and follows it from now on. */
  show() {
    this.#follows = true;
    this.#changed(false);
    this.#box.scrollTop = this.#box.scrollHeight;
  }

  #atEnd() {
    return this.#box.scrollHeight - this.#box.scrollTop - this.#box.clientHeight < NEAR;
  }
}
