// Search in a site that is read from the disk, where browsers let no page start a worker: a hidden frame runs its script.
// The theme asks for a shim of this name from elsewhere, unless the site has one.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.waiting = []
      const script = document.createElement("script")
      script.src = url
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.frame.srcdoc = script.outerHTML
      this.frame.addEventListener("load", () => {
        // What the script sends to its worker's owner goes here, not to the frame.
        this.frame.contentWindow.postMessage = data => this.dispatchEvent(new MessageEvent("message", {data}))
        const waiting = this.waiting
        this.waiting = null
        waiting.forEach(data => this.postMessage(data))
      })
      document.documentElement.append(this.frame)
    }

    postMessage(data) {
      if (this.waiting) this.waiting.push(data)
      else this.frame.contentWindow.dispatchEvent(new MessageEvent("message", {data}))
    }

    terminate() {
      this.frame.remove()
    }
  }
}
